// Convolutions in which each channel has its own filter. Included by kernels.cc only.

constexpr int kPixelsInTile = kRegisters / 4;

// The taps of a pixel that do not lie in the padding: their numbers, and the offsets of what they read.
struct PixelTaps {
  Index count = 0;
  Index number[kTapsAcrossAtMost], offset[kTapsAcrossAtMost];

  template <typename T>
  PixelTaps(const Reach<T>& reach, Index row, Index column) {
    for (Index down = 0; down < reach.taps_down; down++) {
      const Index by_row = reach.row_offset[down * reach.rows + row];
      for (Index across = 0; across < reach.taps_across; across++) {
        const Index by_column = reach.column_offset[across * reach.columns + column];
        number[count] = down * reach.taps_across + across, offset[count] = by_row + by_column;
        count += (by_row | by_column) >= 0;
      }
    }
  }
};

// Calls visit(Number of pixels, taps of the first, first pixel's place in the strip, strip) for tiles
// of a row's pixels, which are nearly equally wide.
template <typename T, typename Visit>
inline void for_each_tile(const Depthwise<T>& pass, Index row, Visit visit) {
  for (Index i = 0; i < pass.strip_count; i++) {
    const Strip& strip = pass.strips[i];
    const PixelTaps taps(pass.reach, row, strip.first);
    const Index tiles = (strip.count + kPixelsInTile - 1) / kPixelsInTile;
    for (Index tile = 0; tile < tiles; tile++) {
      const Index first = strip.count * tile / tiles, last = strip.count * (tile + 1) / tiles;
      with_number<kPixelsInTile>(last - first,
                                 [&](auto pixels) { visit(pixels, taps, first, strip); });
    }
  }
}

// Calls visit(first channel, channels) for vectors of channels.
template <typename Visit>
[[gnu::always_inline]] inline void for_each_vector(Index channels, Visit visit) {
  Index channel = 0;
  for (; channel + kLanes <= channels; channel += kLanes) visit(channel, kLanes);
  if (channel < channels) visit(channel, channels - channel);
}

template <typename T>
[[gnu::always_inline]] inline Vector load_channels(const T* from, Index channels) {
  return channels == kLanes ? load(from) : load_some(from, channels);
}

// One row of an image's output: out[channel] = sum over taps of source[tap][channel] *
// kernel[tap][channel].
template <typename T>
void depthwise(const Depthwise<T>& pass, Index image, Index row) {
  const Reach<T>& reach = pass.reach;
  const Index channels = reach.run, first_pixel = (image * reach.rows + row) * reach.columns;
  const T* image_source = reach.source + image * reach.image_stride;
  for_each_tile(pass, row, [&](auto pixels, const PixelTaps& taps, Index first, const Strip& strip) {
    constexpr int kPixels = decltype(pixels)::value;
    const T* source = image_source + first * strip.shift;
    const Index pixel = first_pixel + strip.first + first * strip.step;
    const Index shift = strip.shift, step = strip.step * channels;
    for_each_vector(channels, [&](Index channel, Index count) {
      Vector sum[kPixels][1] = {}, bias[1];
      for (Index t = 0; t < taps.count; t++) {
        const float* tap = pass.kernel + taps.number[t] * channels + channel;
        const Vector weights = load_channels(tap, count);
        const T* from = source + taps.offset[t] + channel;
#pragma GCC unroll 8
        for (int m = 0; m < kPixels; m++)
          sum[m][0] += load_channels(from + m * shift, count) * weights;
      }
      load_bias(pass.epilogue, bias, channel, count);
#pragma GCC unroll 8
      for (int m = 0; m < kPixels; m++)
        finish(pass.epilogue, bias, sum[m], pixel * channels + channel + m * step, pass.out, count);
    });
  });
}

// sums[tap][channel] = sum over the pixels of the group's rows of source[tap][channel] *
// gradient[channel].
template <typename T>
void depthwise_kernel_gradient(const Depthwise<T>& pass, Index group) {
  const Reach<T>& reach = pass.reach;
  const Index channels = reach.run, taps_count = reach.taps_down * reach.taps_across;
  const Index first_row = group * pass.rows_per_group;
  const Index last_row = smaller(first_row + pass.rows_per_group, reach.images * reach.rows);
  float* const sums = pass.sums + group * taps_count * channels;
  for (Index i = 0; i < taps_count * channels; i++) sums[i] = 0;
  for (Index at_row = first_row; at_row < last_row; at_row++) {
    const T* image_source = reach.source + at_row / reach.rows * reach.image_stride;
    for_each_tile(pass, at_row % reach.rows, [&](auto pixels, const PixelTaps& taps, Index first,
                                                 const Strip& strip) {
      constexpr int kPixels = decltype(pixels)::value;
      const T* source = image_source + first * strip.shift;
      const Index pixel = at_row * reach.columns + strip.first + first * strip.step;
      const Index shift = strip.shift, step = strip.step * channels;
      for_each_vector(channels, [&](Index channel, Index count) {
        Vector gradient[kPixels];
#pragma GCC unroll 8
        for (int m = 0; m < kPixels; m++)
          gradient[m] = load_channels(pass.gradient + pixel * channels + channel + m * step, count);
        for (Index t = 0; t < taps.count; t++) {
          const T* from = source + taps.offset[t] + channel;
          float* const to = sums + taps.number[t] * channels + channel;
          Vector sum[1] = {};
#pragma GCC unroll 8
          for (int m = 0; m < kPixels; m++)
            sum[0] += load_channels(from + m * shift, count) * gradient[m];
          sum[0] += load_channels(to, count);
          store_row(to, sum, count);
        }
      });
    });
  }
}
