// Batch normalisation and norms. Included by kernels.cc only.
//
// Sums read memory once: pixels are taken in chunks that stay in the nearest cache, and what needs a
// second look, such as the distance from the mean, looks at the chunk.

constexpr Index kChunkValues = 4096;
constexpr Index kRowsAtLeast = 8;  // so that merging chunks costs little beside their sums

constexpr int kAcross = 4;  // vectors side by side: independent sums, and whole cache lines

inline Index rows_of_chunk(Index channels) {
  const Index rows = kChunkValues / channels;
  return rows < kRowsAtLeast ? kRowsAtLeast : rows > 64 ? 64 : rows;
}

// Calls visit(first pixel, last pixel, first channel, channels) for every chunk and block of
// channels of a group.
template <typename T, typename Visit>
inline void for_each_chunk(const Normalization<T>& pass, Index group, Visit visit) {
  const Index end = smaller((group + 1) * pass.pixels_per_group, pass.pixels);
  const Index rows = rows_of_chunk(pass.channels);
  for (Index pixel = group * pass.pixels_per_group; pixel < end; pixel += rows)
    for (Index channel = 0; channel < pass.channels; channel += kAcross * kLanes)
      visit(pixel, smaller(pixel + rows, end), channel,
            smaller(kAcross * kLanes, pass.channels - channel));
}

// The mean of the values seen so far and the sum of their squared distances from it, by Chan's rule
// for merging two sets: as exact as two passes, where the mean of squares less the square of the
// mean cancels.
template <typename T>
void moments(const Normalization<T>& pass, Index group) {
  float* means = pass.sums + 2 * group * pass.channels;
  float* squares = means + pass.channels;
  const Index begin = group * pass.pixels_per_group;
  for_each_chunk(pass, group, [&](Index first, Index last, Index channel, Index channels) {
    const Index rows = last - first, before = first - begin;
    const T* x = pass.x + first * pass.channels + channel;
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

// The gradient of the normalised value: of the output where ReLU passed it, else 0.
template <typename T>
inline void load_gradient(const Normalization<T>& pass, Index at, Vector (&gradient)[kAcross],
                          Index channels) {
  load_row(pass.gradient + at, gradient, channels);
  if (!pass.relu) return;
  Vector y[kAcross];
  load_row(static_cast<const T*>(pass.y) + at, y, channels);
  for (int v = 0; v < kAcross; v++) gradient[v] = y[v] > 0.0f ? gradient[v] : Vector{};
}

// The sum of the gradient, and of the gradient times the distance of x from its mean.
template <typename T>
void gradient_sums(const Normalization<T>& pass, Index group) {
  float* sums = pass.sums + 2 * group * pass.channels;
  float* products = sums + pass.channels;
  const Index begin = group * pass.pixels_per_group;
  for_each_chunk(pass, group, [&](Index first, Index last, Index channel, Index channels) {
    Vector sum[kAcross] = {}, product[kAcross] = {}, mean[kAcross];
    load_row(pass.center + channel, mean, channels);
    for (Index pixel = first; pixel < last; pixel++) {
      const Index at = pixel * pass.channels + channel;
      Vector value[kAcross], gradient[kAcross];
      load_row(pass.x + at, value, channels);
      load_gradient(pass, at, gradient, channels);
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

// Calls visit(offset of the value, first channel, channels) for all blocks of pixels, as they lie in
// memory.
template <typename Visit>
inline void for_each_block(Index first, Index last, Index channels, Visit visit) {
  for (Index pixel = first; pixel < last; pixel++)
    for (Index channel = 0; channel < channels; channel += kAcross * kLanes)
      visit(pixel * channels + channel, channel, smaller(kAcross * kLanes, channels - channel));
}

// y = (x - center) * factor + offset + residual, ReLU.
template <typename T>
void normalize(const Normalization<T>& pass, Index first, Index last) {
  for_each_block(first, last, pass.channels, [&](Index at, Index channel, Index channels) {
    Vector value[kAcross], center[kAcross], factor[kAcross], offset[kAcross];
    load_row(pass.x + at, value, channels);
    load_row(pass.center + channel, center, channels);
    load_row(pass.factor + channel, factor, channels);
    load_row(pass.offset + channel, offset, channels);
    for (int v = 0; v < kAcross; v++) value[v] = (value[v] - center[v]) * factor[v] + offset[v];
    if (pass.residual != nullptr) {
      Vector residual[kAcross];
      load_row(pass.residual + at, residual, channels);
      for (int v = 0; v < kAcross; v++) value[v] += residual[v];
    }
    if (pass.relu)
      for (int v = 0; v < kAcross; v++) value[v] = relu(value[v]);
    store_row(pass.y + at, value, channels);
  });
}

// The gradients of x and of the residual.
template <typename T>
void normalize_gradient(const Normalization<T>& pass, Index first, Index last) {
  for_each_block(first, last, pass.channels, [&](Index at, Index channel, Index channels) {
    Vector value[kAcross], gradient[kAcross];
    Vector center[kAcross], factor[kAcross], offset[kAcross], tilt[kAcross];
    load_row(pass.x + at, value, channels);
    load_gradient(pass, at, gradient, channels);
    if (pass.residual_gradient != nullptr)
      store_row(pass.residual_gradient + at, gradient, channels);
    load_row(pass.center + channel, center, channels);
    load_row(pass.factor + channel, factor, channels);
    load_row(pass.offset + channel, offset, channels);
    load_row(pass.tilt + channel, tilt, channels);
    for (int v = 0; v < kAcross; v++)
      value[v] = factor[v] * (gradient[v] - offset[v] - (value[v] - center[v]) * tilt[v]);
    store_row(pass.x_gradient + at, value, channels);
  });
}

template <typename T>
float sum_of_squares(const T* values, Index count) {
  Vector sum[kAcross] = {};
  Index i = 0;
  for (; i + kAcross * kLanes <= count; i += kAcross * kLanes)
    for (int v = 0; v < kAcross; v++) {
      const Vector value = load(values + i + v * kLanes);
      sum[v] += value * value;
    }
  const Vector total = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  float result = 0;
  for (int lane = 0; lane < kLanes; lane++) result += total[lane];
  for (; i < count; i++) result += to_float(values[i]) * to_float(values[i]);
  return result;
}
