// A convolution's kernel gradient. Included by kernels.cc only.
//
// In bfloat16 two pixels are taken together: a product is one of pairs, as in the other passes.

// A pixel, or two, that a tap reads: its values and its packed gradient in the first block.
template <typename T>
struct Meeting {
  const T* source;
  const T* gradient;
};

// kHeight values of each meeting's run, side by side. A run of a power of two in floats lies, pixel
// by pixel, in so few places of the nearest cache that they would displace each other.
template <int kHeight>
inline void pack_sources(const Meeting<float>* meetings, Index count, Index offset, float* packed) {
  for (Index q = 0; q < count; q++)
    for (int m = 0; m < kHeight; m++) packed[q * kHeight + m] = meetings[q].source[offset + m];
}

// Outer products of kHeight values of the run, packed or where they lie, and one packed row, summed
// over the meetings.
template <int kHeight, int kVectors, bool kPacked, typename T>
inline void sum_products(const Meeting<T>* meetings, Index count, const T* packed, Index offset,
                         Index gradient_offset, float* sums, Index channels, Index stride) {
  Vector sum[kHeight][kVectors] = {};
  for (Index q = 0; q < count; q++) {
    const T* source = kPacked ? packed + q * kHeight : meetings[q].source + offset * kStep<T>;
    const T* row = meetings[q].gradient + gradient_offset;
    Vector gradient[kVectors];
    for (int v = 0; v < kVectors; v++) gradient[v] = load_weights(row + v * kLanes * kStep<T>);
#pragma GCC unroll 12
    for (int m = 0; m < kHeight; m++)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; v++)
        multiply_add(sum[m][v], source + m * kStep<T>, gradient[v]);
  }
  // Chunks are summed apart and then added: a long sum in one register would lose digits.
  for (int m = 0; m < kHeight; m++) {
    Vector total[kVectors];
    load_row(sums + m * stride, total, channels);
    for (int v = 0; v < kVectors; v++) total[v] += sum[m][v];
    store_row(sums + m * stride, total, channels);
  }
}

// The same for all blocks of a round. Not inlined: beside each other in one function, both forms
// would have too few general registers for their pointers.
template <int kHeight, int kVectors, typename T>
[[gnu::noinline]] void sum_blocks(const Meeting<T>* meetings, Index count, Index offset,
                                  Index blocks, Index block_size, float* sums, Index channels,
                                  Index stride) {
  constexpr Index kWidth = kVectors * kLanes;
  constexpr bool kPacked = kStep<T> == 1;  // pairs are packed by tap already
  alignas(64) T packed[kPacked ? kPixelsPacked * kHeight : 1];
  if constexpr (kPacked) pack_sources<kHeight>(meetings, count, offset, packed);
  for (Index block = 0; block < blocks; block++)
    sum_products<kHeight, kVectors, kPacked>(meetings, count, packed, offset, block * block_size,
                                             sums + block * kWidth, channels - block * kWidth,
                                             stride);
}

// `height` values of the run from `offset` on; `channels` are left from the first block on.
template <int kVectors, typename T, int kHeight = tallest(kVectors)>
inline void sum_tile(Index height, const Meeting<T>* meetings, Index count, Index offset,
                     Index blocks, Index block_size, float* sums, Index channels, Index stride) {
  if (height != kHeight) {
    if constexpr (kHeight > 1)
      sum_tile<kVectors, T, kHeight - 1>(height, meetings, count, offset, blocks, block_size, sums,
                                         channels, stride);
  } else if (blocks == 1) {  // packing would not pay
    sum_products<kHeight, kVectors, false, T>(meetings, count, nullptr, offset, 0, sums, channels,
                                              stride);
  } else {
    sum_blocks<kHeight, kVectors>(meetings, count, offset, blocks, block_size, sums, channels,
                                  stride);
  }
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

// Some pixels of a group: where they are, and their gradient in whole vectors, block by block.
template <typename T, int kVectors>
struct Chunk {
  static constexpr Index kWidth = kVectors * kLanes, kBlockSize = kPixelsPacked * kWidth;
  // Of the run, packed as pairs at a time, and one cache line more: a power of two would be slow.
  static constexpr Index kRunPacked = 256, kRowSize = 2 * (kRunPacked + 16);
  Index count;
  const T* image[kPixelsPacked];
  Index row[kPixelsPacked], column[kPixelsPacked];
  alignas(64) T gradient[kValuesPacked];  // [blocks][kPixelsPacked / kStep][kWidth][kStep]
  alignas(64) T pairs[kStep<T> == 2 ? kPixelsPacked / 2 * kRowSize : 1];

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

  // The pixels whose tap is not in the padding; their number.
  Index meet(const KernelGradient<float>& pass, Index tap, Index, Index,
             Meeting<float>* meetings) {
    const Reach<float>& reach = pass.reach;
    const Index* row_offset = reach.row_offset + tap / reach.taps_across * reach.rows;
    const Index* column_offset = reach.column_offset + tap % reach.taps_across * reach.columns;
    Index met = 0;
    for (Index q = 0; q < count; q++) {
      const Index by_row = row_offset[row[q]], by_column = column_offset[column[q]];
      meetings[met] = {image[q] + by_row + by_column, gradient + q * kWidth};
      met += (by_row | by_column) >= 0;
    }
    return met;
  }

  // Likewise of two pixels one or both; `run` values from `begin` on are packed as pairs.
  Index meet(const KernelGradient<Bfloat16>& pass, Index tap, Index begin, Index run,
             Meeting<Bfloat16>* meetings) {
    const Reach<Bfloat16>& reach = pass.reach;
    const Index* row_offset = reach.row_offset + tap / reach.taps_across * reach.rows;
    const Index* column_offset = reach.column_offset + tap % reach.taps_across * reach.columns;
    Index met = 0;
    for (Index q = 0; q < count; q += 2) {
      const Bfloat16* from[2] = {pass.zeros, pass.zeros};
      bool any = false;
      for (Index i = 0; i < 2 && q + i < count; i++) {
        const Index by_row = row_offset[row[q + i]], by_column = column_offset[column[q + i]];
        if ((by_row | by_column) < 0) continue;
        from[i] = image[q + i] + by_row + by_column, any = true;
      }
      if (!any) continue;
      Bfloat16* packed = pairs + met * kRowSize;
      interleave(from[0] + begin, from[1] + begin, run, packed);
      meetings[met++] = {packed, gradient + q * kWidth};
    }
    return met;
  }
};

template <int kVectors, typename T>
void kernel_gradient_tiles(const KernelGradient<T>& pass, Index group, Index first_block,
                           Index last_block, Index first_tap, Index last_tap) {
  constexpr Index kWidth = kVectors * kLanes;
  const Reach<T>& reach = pass.reach;
  const Index run = reach.run, size = pass.sums_stride;
  const Index pixels =
      smaller((group + 1) * pass.pixels_per_group, reach.images * reach.rows * reach.columns);
  const Index blocks = last_block - first_block, channel = first_block * kWidth;
  const Index left = pass.channels - channel, channels = smaller(blocks * kWidth, left);
  float* sums = pass.sums + group * pass.group_stride + channel;
  for (Index r = first_tap * run; r < last_tap * run; r++)
    for (Index c = 0; c < channels; c++) sums[r * size + c] = 0;

  Chunk<T, kVectors> chunk;
  Meeting<T> meetings[kPixelsPacked];
  // Without padding every tap reads every pixel, at a distance of its own: one list will do.
  const bool shares = reach.all_inside && kStep<T> == 1;
  const Index run_at_once = kStep<T> == 1 ? run : chunk.kRunPacked;
  for (Index pixel = group * pass.pixels_per_group; pixel < pixels; pixel += kPixelsPacked) {
    chunk.take(pass, pixel, smaller(pixel + kPixelsPacked, pixels), first_block, blocks);
    Index count = shares ? chunk.meet(pass, 0, 0, run, meetings) : 0;
    for (Index tap = first_tap; tap < last_tap; tap++)
      for (Index first = 0; first < run; first += run_at_once) {
        const Index here = smaller(run_at_once, run - first);
        if (!shares) count = chunk.meet(pass, tap, first, here, meetings);
        const Index distance = shares ? reach.distance[tap] : 0;
        const Index tiles = (here + tallest(kVectors) - 1) / tallest(kVectors);  // nearly equal
        for (Index tile = 0; tile < tiles; tile++) {
          const Index begin = here * tile / tiles, end = here * (tile + 1) / tiles;
          sum_tile<kVectors, T>(end - begin, meetings, count, distance + begin, blocks,
                                chunk.kBlockSize, sums + (tap * run + first + begin) * size, left,
                                size);
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
