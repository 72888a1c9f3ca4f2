// A convolution's kernel gradient. Included by kernels.cc and amx.cc only.
//
// What a tap reads is packed first: where it lies, a run of a power of two would be, pixel by pixel, in
// so few places of the nearest cache that they would displace each other. In bfloat16 two pixels are
// packed together: a product is one of pairs, as in the other passes.

// Values of a run that are packed at a time, and the distance of packed pixels (or pairs of pixels):
// one cache line more, so that it is no power of two.
constexpr Index kRunPacked = 256;
template <typename T>
constexpr Index kRowSize = kStep<T> * (kRunPacked + 16);

// Where the sums of a tile go: [height][stride], of which `channels` are left; they are stored, or
// added to what is there.
struct Target {
  float* sums;
  Index channels, stride;
  bool adds;

  Target at(Index row, Index channel) const {
    return {sums + row * stride + channel, channels - channel, stride, adds};
  }
};

// Outer products of kHeight values of the run and one row of the gradient, summed over the pixels.
// `packed` is where the first pixel's values are.
template <int kHeight, int kVectors, typename T>
inline void sum_products(const T* packed, const T* const* gradients, Index count, Index offset,
                         const Target& target) {
  Vector sum[kHeight][kVectors] = {};
  for (Index q = 0; q < count; q++, packed += kRowSize<T>) {
    const T* row = gradients[q] + offset;
    Vector gradient[kVectors];
    for (int v = 0; v < kVectors; v++) gradient[v] = load_weights(row + v * kLanes * kStep<T>);
#pragma GCC unroll 12
    for (int m = 0; m < kHeight; m++)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; v++)
        multiply_add(sum[m][v], packed + m * kStep<T>, gradient[v]);
  }
  // Chunks are summed apart and then added: a long sum in one register would lose digits.
  for (int m = 0; m < kHeight; m++) {
    float* to = target.sums + m * target.stride;
    if (target.adds) {
      Vector total[kVectors];
      load_row(to, total, target.channels);
      for (int v = 0; v < kVectors; v++) sum[m][v] += total[v];
    }
    store_row(to, sum[m], target.channels);
  }
}

template <int kVectors, typename T, int kHeight = tallest(kVectors)>
inline void sum_tile(Index height, const T* packed, const T* const* gradients, Index count,
                     Index offset, const Target& target) {
  if (height == kHeight)
    sum_products<kHeight, kVectors>(packed, gradients, count, offset, target);
  else if constexpr (kHeight > 1)
    sum_tile<kVectors, T, kHeight - 1>(height, packed, gradients, count, offset, target);
}

// Two rows of bfloat16 as pairs.
inline void interleave(const Bfloat16* first, const Bfloat16* second, Index count, Bfloat16* pairs) {
  for (Index c = 0; c < count; c += kLanes) {
    const Index left = count - c;
    const Vector one = left >= kLanes ? load(first + c) : load_some(first + c, left);
    const Vector other = left >= kLanes ? load(second + c) : load_some(second + c, left);
    const Bits both = reinterpret_cast<Bits>(one) >> 16 | reinterpret_cast<Bits>(other);
    store(reinterpret_cast<float*>(pairs) + c, reinterpret_cast<Vector>(both));
  }
}

inline void copy(const float* from, Index count, float* to) {
  for (Index c = 0; c < count; c += kLanes)
    store(to + c, count - c >= kLanes ? load(from + c) : load_some(from + c, count - c));
}

// Some pixels of a group: where they are, and their gradient in whole vectors, block by block.
template <typename T, int kVectors>
struct Chunk {
  static constexpr Index kWidth = kVectors * kLanes, kBlockSize = kPixelsPacked * kWidth;
  Index count;
  const T* image[kPixelsPacked];
  Index row[kPixelsPacked], column[kPixelsPacked];
  alignas(64) T gradient[kValuesPacked];  // [blocks][kPixelsPacked / kStep][kWidth][kStep]
  alignas(64) T packed[kPixelsPacked / kStep<T> * kRowSize<T>];

  void take(const KernelGradient<T>& pass, Index first, Index last, Index first_block,
            Index blocks) {
    const Reach<T>& reach = pass.reach;
    count = last - first;
    for (Index block = 0; block < blocks; block++) {
      const Index channel = (first_block + block) * kWidth, left = pass.channels - channel;
      const T* from = pass.gradient + first * pass.gradient_stride + channel;
      pack_gradient(from, pass.gradient_stride, left, gradient + block * kBlockSize);
    }
    Index at_column = first % reach.columns, at_row = first / reach.columns % reach.rows;
    Index at_image = first / reach.columns / reach.rows;
    for (Index q = 0; q < last - first; q++) {
      image[q] = reach.source + at_image * reach.image_stride;
      row[q] = at_row, column[q] = at_column;
      if (++at_column < reach.columns) continue;
      at_column = 0;
      if (++at_row == reach.rows) at_row = 0, at_image++;
    }
  }

  void pack_gradient(const float* from, Index stride, Index channels, float* to) const {
    for (Index q = 0; q < count; q++, from += stride, to += kWidth) {
      Vector values[kVectors];
      load_row(from, values, channels);
      for (int v = 0; v < kVectors; v++) store(to + v * kLanes, values[v]);
    }
  }

  void pack_gradient(const Bfloat16* from, Index stride, Index channels, Bfloat16* to) const {
    for (Index q = 0; q < count; q += 2, from += 2 * stride, to += 2 * kWidth) {
      Vector one[kVectors], other[kVectors] = {};
      load_row(from, one, channels);
      if (q + 1 < count) load_row(from + stride, other, channels);
      for (int v = 0; v < kVectors; v++) {
        const Bits both = reinterpret_cast<Bits>(one[v]) >> 16 | reinterpret_cast<Bits>(other[v]);
        store(reinterpret_cast<float*>(to) + v * kLanes, reinterpret_cast<Vector>(both));
      }
    }
  }

  // What a tap reads of the chunk's pixels: at(q) is null if that is in the padding.
  struct Tap {
    const Chunk& chunk;
    const Index *row_offset, *column_offset;

    Tap(const Chunk& chunk, const Reach<T>& reach, Index tap)
        : chunk(chunk),
          row_offset(reach.row_offset + tap / reach.taps_across * reach.rows),
          column_offset(reach.column_offset + tap % reach.taps_across * reach.columns) {}

    const T* at(Index q) const {
      const Index by_row = row_offset[chunk.row[q]], by_column = column_offset[chunk.column[q]];
      return (by_row | by_column) < 0 ? nullptr : chunk.image[q] + by_row + by_column;
    }
  };

  // Packs `run` values from `begin` on that a tap reads, of pixels where it is not in the padding;
  // their number, and the rows of their gradients.
  Index meet(const KernelGradient<float>& pass, Index tap, Index begin, Index run,
             const float** gradients) {
    const Tap source(*this, pass.reach, tap);
    Index met = 0;
    for (Index q = 0; q < count; q++) {
      const float* from = source.at(q);
      if (from == nullptr) continue;
      copy(from + begin, run, packed + met * kRowSize<T>);
      gradients[met++] = gradient + q * kWidth;
    }
    return met;
  }

  // Likewise of two pixels one or both.
  Index meet(const KernelGradient<Bfloat16>& pass, Index tap, Index begin, Index run,
             const Bfloat16** gradients) {
    const Tap source(*this, pass.reach, tap);
    Index met = 0;
    for (Index q = 0; q < count; q += 2) {
      const Bfloat16* one = source.at(q);
      const Bfloat16* other = q + 1 < count ? source.at(q + 1) : nullptr;
      if (one == nullptr && other == nullptr) continue;
      interleave((one ? one : pass.zeros) + begin, (other ? other : pass.zeros) + begin, run,
                 packed + met * kRowSize<T>);
      gradients[met++] = gradient + q * kWidth;
    }
    return met;
  }
};

template <int kVectors, typename T>
void kernel_gradient_tiles(const KernelGradient<T>& pass, Index group, Index first_block,
                           Index last_block, Index first_tap, Index last_tap) {
  constexpr Index kWidth = kVectors * kLanes, kTallest = tallest(kVectors);
  const Reach<T>& reach = pass.reach;
  const Index run = reach.run, begin_pixel = group * pass.pixels_per_group;
  const Index pixels =
      smaller(begin_pixel + pass.pixels_per_group, reach.images * reach.rows * reach.columns);
  const Index blocks = last_block - first_block, channel = first_block * kWidth;
  Target target = {pass.sums + group * pass.group_stride + channel, pass.channels - channel,
                   pass.sums_stride, false};

  Chunk<T, kVectors> chunk;
  const T* gradients[kPixelsPacked];
  for (Index pixel = begin_pixel; pixel < pixels; pixel += kPixelsPacked) {
    target.adds = pixel > begin_pixel;
    chunk.take(pass, pixel, smaller(pixel + kPixelsPacked, pixels), first_block, blocks);
    for (Index tap = first_tap; tap < last_tap; tap++)
      for (Index first = 0; first < run; first += kRunPacked) {
        const Index here = smaller(kRunPacked, run - first);
        const Index count = chunk.meet(pass, tap, first, here, gradients);
        const Index tiles = (here + kTallest - 1) / kTallest;  // of nearly equal height
        // A block's gradient stays in the nearest cache while the tiles pass by.
        for (Index block = 0; block < blocks; block++)
          for (Index tile = 0; tile < tiles; tile++) {
            const Index begin = here * tile / tiles, end = here * (tile + 1) / tiles;
            sum_tile<kVectors, T>(end - begin, chunk.packed + begin * kStep<T>, gradients, count,
                                  block * chunk.kBlockSize,
                                  target.at(tap * run + first + begin, block * kWidth));
          }
      }
  }
}

template <typename T>
void kernel_gradient(const KernelGradient<T>& pass, Index group, Index first_block,
                     Index last_block, Index first_tap, Index last_tap) {
  switch (pass.width / kLanes) {
    case 1:
      return kernel_gradient_tiles<1>(pass, group, first_block, last_block, first_tap, last_tap);
    case 2:
      return kernel_gradient_tiles<2>(pass, group, first_block, last_block, first_tap, last_tap);
#if JAXNETS_REGISTERS >= 32
    case 3:
      return kernel_gradient_tiles<3>(pass, group, first_block, last_block, first_tap, last_tap);
    case 4:
      return kernel_gradient_tiles<4>(pass, group, first_block, last_block, first_tap, last_tap);
#endif
  }
}

void add_groups(const float* sums, Index groups, Index stride, Index first, Index last,
                float* total) {
  Index i = first;
  for (; i + kLanes <= last; i += kLanes) {
    Vector sum = load(sums + i);
    for (Index g = 1; g < groups; g++) sum += load(sums + g * stride + i);
    store(total + i, sum);
  }
  for (; i < last; i++) {
    float sum = sums[i];
    for (Index g = 1; g < groups; g++) sum += sums[g * stride + i];
    total[i] = sum;
  }
}
