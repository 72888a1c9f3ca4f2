// Tiles of a convolution's kernel gradient. Included by tiles.cc alone.

constexpr int kChunk = 128;  // pixels whose gradient is packed at a time

// A pixel that a tap meets: what it reads, and its packed gradient.
struct Meeting {
  const float* source;
  const float* gradient;
};

// Outer products of kHeight floats of the run and one packed row, summed over the meetings.
template <int kHeight, int kVectors>
inline void sum_products(const Meeting* meetings, Index count, Index offset, float* sums,
                         Index channels, Index stride) {
  Vector sum[kHeight][kVectors] = {};
  for (Index q = 0; q < count; q++) {
    const float* source = meetings[q].source + offset;
    Vector gradient[kVectors];
    for (int v = 0; v < kVectors; v++) gradient[v] = load(meetings[q].gradient + v * kLanes);
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

template <int kVectors, int kHeight = tallest(kVectors)>
inline void sum_products(Index height, const Meeting* meetings, Index count, Index offset,
                         float* sums, Index channels, Index stride) {
  if (height == kHeight)
    sum_products<kHeight, kVectors>(meetings, count, offset, sums, channels, stride);
  else if constexpr (kHeight > 1)
    sum_products<kVectors, kHeight - 1>(height, meetings, count, offset, sums, channels, stride);
}

// Some pixels of a group: where they are, and their gradient in whole vectors.
template <int kVectors>
struct Chunk {
  static constexpr int kWidth = kVectors * kLanes;
  Index count;
  const float* image[kChunk];
  Index row[kChunk], column[kChunk];
  alignas(64) float gradient[kChunk * kWidth];

  void take(const KernelGradient& pass, Index first, Index last, Index channel, Index channels) {
    const Reach& reach = pass.reach;
    Index at_column = first % reach.columns, at_row = first / reach.columns % reach.rows;
    Index at_image = first / reach.columns / reach.rows;
    count = last - first;
    for (Index q = 0; q < count; q++) {
      Vector values[kVectors];
      load_row(pass.gradient + (first + q) * pass.channels + channel, values, channels);
      for (int v = 0; v < kVectors; v++) store(gradient + q * kWidth + v * kLanes, values[v]);
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
void kernel_gradient_tiles(const KernelGradient& pass, Index group, Index block, Index first_tap,
                           Index last_tap) {
  const Reach& reach = pass.reach;
  const Index taps = reach.taps_down * reach.taps_across, run = reach.run, size = pass.channels;
  const Index pixels =
      smaller((group + 1) * pass.pixels_per_group, reach.images * reach.rows * reach.columns);
  const Index channel = block * kVectors * kLanes;
  const Index channels = smaller(kVectors * kLanes, size - channel);
  float* sums = pass.sums + group * taps * run * size + channel;
  for (Index r = first_tap * run; r < last_tap * run; r++)
    for (Index c = 0; c < channels; c++) sums[r * size + c] = 0;

  const Index tiles = (run + tallest(kVectors) - 1) / tallest(kVectors);  // of nearly equal height
  Chunk<kVectors> chunk;
  Meeting meetings[kChunk];
  for (Index pixel = group * pass.pixels_per_group; pixel < pixels; pixel += kChunk) {
    chunk.take(pass, pixel, smaller(pixel + kChunk, pixels), channel, channels);
    // Without padding all taps meet all pixels, at distances of their own: one list will do.
    Index count = reach.all_inside ? chunk.meet(reach, 0, meetings) : 0;
    for (Index tap = first_tap; tap < last_tap; tap++) {
      if (!reach.all_inside) count = chunk.meet(reach, tap, meetings);
      const Index distance = reach.all_inside ? reach.distance[tap] : 0;
      for (Index tile = 0; tile < tiles; tile++) {
        const Index begin = run * tile / tiles, end = run * (tile + 1) / tiles;
        sum_products<kVectors>(end - begin, meetings, count, distance + begin,
                               sums + (tap * run + begin) * size, channels, size);
      }
    }
  }
}

void kernel_gradient(const KernelGradient& pass, Index group, Index block, Index first_tap,
                     Index last_tap) {
  switch (pass.width / kLanes) {
    case 1: return kernel_gradient_tiles<1>(pass, group, block, first_tap, last_tap);
    case 2: return kernel_gradient_tiles<2>(pass, group, block, first_tap, last_tap);
#if JAXNETS_REGISTERS >= 32
    case 3: return kernel_gradient_tiles<3>(pass, group, block, first_tap, last_tap);
    case 4: return kernel_gradient_tiles<4>(pass, group, block, first_tap, last_tap);
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
