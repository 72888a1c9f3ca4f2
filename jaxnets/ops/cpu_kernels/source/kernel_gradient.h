// Tiles of a convolution's kernel gradient. Included by tiles.cc alone.

// A pixel that a tap meets: what it reads, and its packed gradient in the first block.
struct Meeting {
  const float* source;
  const float* gradient;
};

// kHeight floats of each meeting's run, side by side. A run of a power of two in floats lies, pixel
// by pixel, in so few places of the nearest cache that they would push each other out of it.
template <int kHeight>
inline void pack_sources(const Meeting* meetings, Index count, Index offset, float* packed) {
  for (Index q = 0; q < count; q++)
    for (int m = 0; m < kHeight; m++) packed[q * kHeight + m] = meetings[q].source[offset + m];
}

// Outer products of kHeight floats of the run, packed or where they lie, and one packed row, summed
// over the meetings.
template <int kHeight, int kVectors, bool kPacked>
inline void sum_products(const Meeting* meetings, Index count, const float* packed, Index offset,
                         Index gradient_offset, float* sums, Index channels, Index stride) {
  Vector sum[kHeight][kVectors] = {};
  for (Index q = 0; q < count; q++) {
    const float* source = kPacked ? packed + q * kHeight : meetings[q].source + offset;
    const float* row = meetings[q].gradient + gradient_offset;
    Vector gradient[kVectors];
    for (int v = 0; v < kVectors; v++) gradient[v] = load(row + v * kLanes);
#pragma GCC unroll 12
    for (int m = 0; m < kHeight; m++)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; v++) sum[m][v] += source[m] * gradient[v];
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
template <int kHeight, int kVectors>
[[gnu::noinline]] void sum_blocks(const Meeting* meetings, Index count, Index offset, Index blocks,
                                  float* sums, Index channels, Index stride) {
  constexpr Index kWidth = kVectors * kLanes;
  alignas(64) float packed[kPixelsPacked * kHeight];
  pack_sources<kHeight>(meetings, count, offset, packed);
  for (Index block = 0; block < blocks; block++)
    sum_products<kHeight, kVectors, true>(meetings, count, packed, 0,
                                          block * kPixelsPacked * kWidth, sums + block * kWidth,
                                          channels - block * kWidth, stride);
}

// `height` floats of the run from `offset` on; `channels` are left from the first block on.
template <int kVectors, int kHeight = tallest(kVectors)>
inline void sum_tile(Index height, const Meeting* meetings, Index count, Index offset, Index blocks,
                     float* sums, Index channels, Index stride) {
  if (height != kHeight) {
    if constexpr (kHeight > 1)
      sum_tile<kVectors, kHeight - 1>(height, meetings, count, offset, blocks, sums, channels,
                                      stride);
  } else if (blocks == 1) {  // packing would not pay
    sum_products<kHeight, kVectors, false>(meetings, count, nullptr, offset, 0, sums, channels,
                                           stride);
  } else {
    sum_blocks<kHeight, kVectors>(meetings, count, offset, blocks, sums, channels, stride);
  }
}

// Some pixels of a group: where they are, and their gradient in whole vectors, block by block.
template <int kVectors>
struct Chunk {
  static constexpr Index kWidth = kVectors * kLanes;
  Index count;
  const float* image[kPixelsPacked];
  Index row[kPixelsPacked], column[kPixelsPacked];
  alignas(64) float gradient[kFloatsPacked];  // [blocks][kPixelsPacked][kWidth]

  void take(const KernelGradient& pass, Index first, Index last, Index first_block, Index blocks) {
    const Reach& reach = pass.reach;
    count = last - first;
    for (Index block = 0; block < blocks; block++) {
      const Index channel = (first_block + block) * kWidth, size = pass.channels;
      const float* from = pass.gradient + first * size + channel;
      float* to = gradient + block * kPixelsPacked * kWidth;
      for (Index q = 0; q < last - first; q++, from += size, to += kWidth) {
        Vector values[kVectors];
        load_row(from, values, size - channel);
        for (int v = 0; v < kVectors; v++) store(to + v * kLanes, values[v]);
      }
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

  Index meet(const Reach& reach, Index tap, Meeting* meetings) const {
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
};

template <int kVectors>
void kernel_gradient_tiles(const KernelGradient& pass, Index group, Index first_block,
                           Index last_block, Index first_tap, Index last_tap) {
  constexpr Index kWidth = kVectors * kLanes;
  const Reach& reach = pass.reach;
  const Index taps = reach.taps_down * reach.taps_across, run = reach.run, size = pass.channels;
  const Index pixels =
      smaller((group + 1) * pass.pixels_per_group, reach.images * reach.rows * reach.columns);
  const Index blocks = last_block - first_block, channel = first_block * kWidth;
  const Index left = size - channel, channels = smaller(blocks * kWidth, left);
  float* sums = pass.sums + group * taps * run * size + channel;
  for (Index r = first_tap * run; r < last_tap * run; r++)
    for (Index c = 0; c < channels; c++) sums[r * size + c] = 0;

  const Index tiles = (run + tallest(kVectors) - 1) / tallest(kVectors);  // of nearly equal height
  Chunk<kVectors> chunk;
  Meeting meetings[kPixelsPacked];
  for (Index pixel = group * pass.pixels_per_group; pixel < pixels; pixel += kPixelsPacked) {
    chunk.take(pass, pixel, smaller(pixel + kPixelsPacked, pixels), first_block, blocks);
    // Without padding all taps meet all pixels, at distances of their own: one list will do.
    Index count = reach.all_inside ? chunk.meet(reach, 0, meetings) : 0;
    for (Index tap = first_tap; tap < last_tap; tap++) {
      if (!reach.all_inside) count = chunk.meet(reach, tap, meetings);
      const Index distance = reach.all_inside ? reach.distance[tap] : 0;
      for (Index tile = 0; tile < tiles; tile++) {
        const Index begin = run * tile / tiles, end = run * (tile + 1) / tiles;
        sum_tile<kVectors>(end - begin, meetings, count, distance + begin, blocks,
                           sums + (tap * run + begin) * size, left, size);
      }
    }
  }
}

void kernel_gradient(const KernelGradient& pass, Index group, Index first_block, Index last_block,
                     Index first_tap, Index last_tap) {
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
