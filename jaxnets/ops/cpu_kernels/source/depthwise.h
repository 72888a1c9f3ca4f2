// Convolutions in which each channel has its own filter. Included by kernels.cc only.

constexpr Index kTapsUnrolled = 9;  // filters of 3x3 stay in registers

// Where the taps of a pixel are, those in the padding left out; their number.
template <typename T>
inline Index taps_of(const Reach<T>& reach, Index row, Index column, Index* taps, Index* offsets) {
  Index count = 0;
  for (Index down = 0; down < reach.taps_down; down++) {
    const Index by_row = reach.row_offset[down * reach.rows + row];
    for (Index across = 0; across < reach.taps_across; across++) {
      const Index by_column = reach.column_offset[across * reach.columns + column];
      taps[count] = down * reach.taps_across + across, offsets[count] = by_row + by_column;
      count += (by_row | by_column) >= 0;
    }
  }
  return count;
}

// One row of an image's output: out[channel] = sum over taps of source[tap][channel] *
// kernel[tap][channel].
template <typename T>
void depthwise(const Depthwise<T>& pass, Index image, Index row) {
  const Reach<T>& reach = pass.reach;
  const Index channels = reach.run, taps = reach.taps_down * reach.taps_across;
  const T* source = reach.source + image * reach.image_stride;
  const Index first_pixel = (image * reach.rows + row) * reach.columns;
  Index tap_numbers[kTapsAcrossAtMost], offsets[kTapsAcrossAtMost];
  const bool unrolls = taps == kTapsUnrolled && reach.row_is_inside[row];
  for (Index channel = 0; channel < channels; channel += kLanes) {
    const Index left = smaller(channels - channel, kLanes);
    const auto load_here = [&](const auto* from) {
      return left == kLanes ? load(from) : load_some(from, left);
    };
    Vector weights[kTapsUnrolled], bias[1];
    load_bias(pass.epilogue, bias, channel, left);
    if (unrolls)
      for (Index t = 0; t < kTapsUnrolled; t++)
        weights[t] = load_here(pass.kernel + t * channels + channel);
    for (Index column = 0; column < reach.columns; column++) {
      Vector sum[1] = {};
      if (unrolls && reach.column_is_inside[column]) {
        const T* from =
            source + reach.row_offset[row] + reach.column_offset[column] + channel;
#pragma GCC unroll 9
        for (Index t = 0; t < kTapsUnrolled; t++)
          sum[0] += load_here(from + reach.distance[t]) * weights[t];
      } else {
        const Index count = taps_of(reach, row, column, tap_numbers, offsets);
        for (Index t = 0; t < count; t++)
          sum[0] += load_here(source + offsets[t] + channel) *
                    load_here(pass.kernel + tap_numbers[t] * channels + channel);
      }
      finish(pass.epilogue, bias, sum, (first_pixel + column) * channels + channel, pass.out, left);
    }
  }
}

// sums[tap][channel] = sum over the pixels of the group's rows of source[tap][channel] *
// gradient[channel].
template <typename T>
void depthwise_kernel_gradient(const Depthwise<T>& pass, Index group) {
  const Reach<T>& reach = pass.reach;
  const Index channels = reach.run, taps = reach.taps_down * reach.taps_across;
  const Index first = group * pass.rows_per_group;
  const Index last = smaller(first + pass.rows_per_group, reach.images * reach.rows);
  float* sums = pass.sums + group * taps * channels;
  for (Index i = 0; i < taps * channels; i++) sums[i] = 0;
  Index tap_numbers[kTapsAcrossAtMost], offsets[kTapsAcrossAtMost];
  for (Index at_row = first; at_row < last; at_row++) {
    const Index image = at_row / reach.rows, row = at_row % reach.rows;
    const T* source = reach.source + image * reach.image_stride;
    const bool unrolls = taps == kTapsUnrolled && reach.row_is_inside[row];
    for (Index channel = 0; channel < channels; channel += kLanes) {
      const Index left = smaller(channels - channel, kLanes);
      const auto load_here = [&](const auto* from) {
        return left == kLanes ? load(from) : load_some(from, left);
      };
      const auto add = [&](Index tap, Vector value) {
        float* to = sums + tap * channels + channel;
        if (left == kLanes)
          store(to, load(to) + value);
        else
          store_some(to, load_some(to, left) + value, left);
      };
      // Rows are summed apart and then added: a long sum in one register would lose digits.
      Vector total[kTapsUnrolled] = {};
      for (Index column = 0; column < reach.columns; column++) {
        const Vector gradient =
            load_here(pass.gradient + (at_row * reach.columns + column) * channels + channel);
        if (unrolls && reach.column_is_inside[column]) {
          const T* from = source + reach.row_offset[row] + reach.column_offset[column] + channel;
#pragma GCC unroll 9
          for (Index t = 0; t < kTapsUnrolled; t++)
            total[t] += load_here(from + reach.distance[t]) * gradient;
        } else {
          const Index count = taps_of(reach, row, column, tap_numbers, offsets);
          for (Index t = 0; t < count; t++)
            add(tap_numbers[t], load_here(source + offsets[t] + channel) * gradient);
        }
      }
      if (unrolls)
        for (Index t = 0; t < kTapsUnrolled; t++) add(t, total[t]);
    }
  }
}
