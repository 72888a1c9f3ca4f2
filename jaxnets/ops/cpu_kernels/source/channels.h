// Sums over the pixels of each channel. Included by tiles.cc alone.
//
// One pass over memory each: pixels are taken in chunks that stay in the nearest cache, and what
// needs a second look, such as the distance from the mean, looks at the chunk.

constexpr Index kChunkFloats = 4096;
constexpr Index kRowsAtLeast = 8;  // so that merging chunks costs little beside their sums

constexpr int kAcross = 4;  // vectors side by side: independent sums, and whole cache lines

inline Index rows_of_chunk(Index channels) {
  const Index rows = kChunkFloats / channels;
  return rows < kRowsAtLeast ? kRowsAtLeast : rows > 64 ? 64 : rows;
}

// Calls sum(first pixel, last pixel, first channel, channels) for every chunk and block of channels
// of a group.
template <typename Sum>
inline void for_each_chunk(const ChannelSums& pass, Index group, Sum sum) {
  const Index last = smaller((group + 1) * pass.pixels_per_group, pass.pixels);
  const Index rows = rows_of_chunk(pass.channels);
  for (Index pixel = group * pass.pixels_per_group; pixel < last; pixel += rows)
    for (Index channel = 0; channel < pass.channels; channel += kAcross * kLanes)
      sum(pixel, smaller(pixel + rows, last), channel,
          smaller(kAcross * kLanes, pass.channels - channel));
}

// The mean of the values seen so far and the sum of their squared distances from it, by Chan's rule
// for merging two sets: as exact as two passes, where the mean of squares less the square of the
// mean cancels.
void moments(const ChannelSums& pass, Index group) {
  float* means = pass.sums + 2 * group * pass.channels;
  float* squares = means + pass.channels;
  const Index begin = group * pass.pixels_per_group;
  for_each_chunk(pass, group, [&](Index first, Index last, Index channel, Index channels) {
    const Index rows = last - first, before = first - begin;
    const float* x = pass.x + first * pass.channels + channel;
    Vector mean[kAcross] = {}, square[kAcross] = {};
    for (Index row = 0; row < rows; row++) {
      Vector value[kAcross];
      load_row(x + row * pass.channels, value, channels);
      for (int v = 0; v < kAcross; v++) mean[v] += value[v];
    }
    for (int v = 0; v < kAcross; v++) mean[v] *= 1.0f / rows;
    for (Index row = 0; row < rows; row++) {
      Vector value[kAcross];
      load_row(x + row * pass.channels, value, channels);
      for (int v = 0; v < kAcross; v++) square[v] += (value[v] - mean[v]) * (value[v] - mean[v]);
    }
    if (before > 0) {
      Vector old_mean[kAcross], old_square[kAcross];
      load_row(means + channel, old_mean, channels);
      load_row(squares + channel, old_square, channels);
      const float share = static_cast<float>(rows) / (before + rows);
      for (int v = 0; v < kAcross; v++) {
        const Vector step = mean[v] - old_mean[v];
        mean[v] = old_mean[v] + step * share;
        square[v] += old_square[v] + step * step * (share * before);
      }
    }
    store_row(means + channel, mean, channels);
    store_row(squares + channel, square, channels);
  });
}

// The sum of the gradient, and of the gradient times the distance of x from its mean.
void moment_products(const ChannelSums& pass, Index group) {
  float* sums = pass.sums + 2 * group * pass.channels;
  float* products = sums + pass.channels;
  const Index begin = group * pass.pixels_per_group;
  for_each_chunk(pass, group, [&](Index first, Index last, Index channel, Index channels) {
    Vector sum[kAcross] = {}, product[kAcross] = {}, mean[kAcross];
    load_row(pass.mean + channel, mean, channels);
    for (Index pixel = first; pixel < last; pixel++) {
      const Index at = pixel * pass.channels + channel;
      Vector value[kAcross], gradient[kAcross];
      load_row(pass.x + at, value, channels);
      load_row(pass.gradient + at, gradient, channels);
      for (int v = 0; v < kAcross; v++) {
        sum[v] += gradient[v];
        product[v] += gradient[v] * (value[v] - mean[v]);
      }
    }
    if (first > begin) {
      Vector old_sum[kAcross], old_product[kAcross];
      load_row(sums + channel, old_sum, channels);
      load_row(products + channel, old_product, channels);
      for (int v = 0; v < kAcross; v++) sum[v] += old_sum[v], product[v] += old_product[v];
    }
    store_row(sums + channel, sum, channels);
    store_row(products + channel, product, channels);
  });
}
