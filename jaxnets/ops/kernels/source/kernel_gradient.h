// Tiles of a convolution's kernel gradient. Included by tiles.cc alone.

constexpr int kChunk = 128;  // pixels whose gradient is packed at a time

// A pixel that a tap meets: what it reads, and its packed gradient.
struct Meeting {
  const float* source;
  const float* gradient;
};

// Outer products of kHeight floats of the run and one packed row, summed over the meetings.
template <int kHeight, int kVectors>
inline void sum_products(const Meeting* meetings, Index count, Index offset, float* sums, Index channels,
                         Index stride) {
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

template <int kVectors, int kHeight = kSums / kVectors < kTallest ? kSums / kVectors : kTallest>
inline void sum_products(Index height, const Meeting* meetings, Index count, Index offset, float* sums,
                         Index channels, Index stride) {
  if (height == kHeight)
    sum_products<kHeight, kVectors>(meetings, count, offset, sums, channels, stride);
  else if constexpr (kHeight > 1)
    sum_products<kVectors, kHeight - 1>(height, meetings, count, offset, sums, channels, stride);
}

template <int kVectors>
void kernel_gradient_tiles(const KernelGradient& pass, Index group, Index block, Index first_tap,
                           Index last_tap) {
  constexpr int kWidth = kVectors * kLanes;
  constexpr int kHeight = kSums / kVectors < kTallest ? kSums / kVectors : kTallest;
  const Reach& reach = pass.reach;
  const Index taps = reach.taps_down * reach.taps_across, run = reach.run;
  const Index pixels = reach.images * reach.rows * reach.columns;
  const Index first_channel = block * kWidth, channels = smaller(kWidth, pass.channels - first_channel);
  float* sums = pass.sums + group * taps * run * pass.channels + first_channel;
  for (Index r = first_tap * run; r < last_tap * run; r++)
    for (Index c = 0; c < channels; c++) sums[r * pass.channels + c] = 0;

  const Index heights = (run + kHeight - 1) / kHeight;  // tiles of nearly equal height along the run
  alignas(64) float packed[kChunk * kWidth];
  const float* source[kChunk];
  Index rows[kChunk], columns[kChunk];
  Meeting meetings[kChunk];
  const Index last = smaller((group + 1) * pass.pixels_per_group, pixels);
  for (Index pixel = group * pass.pixels_per_group; pixel < last; pixel += kChunk) {
    const Index chunk = smaller(kChunk, last - pixel);
    Index column = pixel % reach.columns, row = pixel / reach.columns % reach.rows;
    Index image = pixel / reach.columns / reach.rows;
    for (Index q = 0; q < chunk; q++) {
      Vector gradient[kVectors];
      load_row(pass.gradient + (pixel + q) * pass.channels + first_channel, gradient, channels);
      for (int v = 0; v < kVectors; v++) store(packed + q * kWidth + v * kLanes, gradient[v]);
      source[q] = reach.source + image * reach.image_stride;
      rows[q] = row, columns[q] = column;
      if (++column == reach.columns) {
        column = 0;
        if (++row == reach.rows) row = 0, image++;
      }
    }
    for (Index tap = first_tap; tap < last_tap; tap++) {
      const Index* row_offset = reach.row_offset + tap / reach.taps_across * reach.rows;
      const Index* column_offset = reach.column_offset + tap % reach.taps_across * reach.columns;
      Index count = 0;
      for (Index q = 0; q < chunk; q++) {
        const Index by_row = row_offset[rows[q]], by_column = column_offset[columns[q]];
        meetings[count] = {source[q] + by_row + by_column, packed + q * kWidth};
        count += (by_row | by_column) >= 0;
      }
      for (Index h = 0, offset = 0; h < heights; h++) {
        const Index height = (run * (h + 1)) / heights - offset;
        sum_products<kVectors>(height, meetings, count, offset, sums + (tap * run + offset) * pass.channels,
                               channels, pass.channels);
        offset += height;
      }
    }
  }
}

void kernel_gradient(const KernelGradient& pass, Index group, Index block, Index first_tap, Index last_tap) {
  switch (pass.width / kLanes) {
    case 1: return kernel_gradient_tiles<1>(pass, group, block, first_tap, last_tap);
    case 2: return kernel_gradient_tiles<2>(pass, group, block, first_tap, last_tap);
#if JAXNETS_REGISTERS >= 32
    case 3: return kernel_gradient_tiles<3>(pass, group, block, first_tap, last_tap);
    case 4: return kernel_gradient_tiles<4>(pass, group, block, first_tap, last_tap);
#endif
  }
}

void add_groups(const float* sums, Index groups, Index stride, Index first, Index last, float* total) {
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
