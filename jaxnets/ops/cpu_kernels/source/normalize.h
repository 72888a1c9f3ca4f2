// Batch normalisation and norms. Included by kernels.cc only.
//
// Sums read memory once: pixels are taken in chunks that stay in the nearest cache, and what needs a
// second look, such as the distance from the mean, looks at the chunk.

constexpr Index kChunkValues = 4096;
constexpr Index kRowsAtLeast = 8;  // so that merging chunks costs little beside their sums

constexpr int kAcross = 4;  // vectors side by side at most: independent sums, whole cache lines

// Calls visit(Number of vectors, first channel, channels) for blocks of channels, which are nearly
// equally wide.
template <typename Visit>
inline void for_each_block(Index channels, Visit visit) {
  const Index vectors = (channels + kLanes - 1) / kLanes;
  const Index blocks = (vectors + kAcross - 1) / kAcross;
  for (Index block = 0; block < blocks; block++) {
    const Index first = vectors * block / blocks, last = vectors * (block + 1) / blocks;
    const Index channel = first * kLanes, count = smaller(last * kLanes, channels) - channel;
    with_number<kAcross>(last - first, [&](auto vectors) { visit(vectors, channel, count); });
  }
}

// Calls visit(Number of vectors, first pixel, last pixel, first channel, channels) for every block of
// channels of every chunk of pixels.
template <typename Visit>
inline void for_each_chunk(Index begin, Index end, Index channels, Visit visit) {
  Index rows = kChunkValues / channels;
  rows = rows < kRowsAtLeast ? kRowsAtLeast : rows > 64 ? 64 : rows;
  for (Index pixel = begin; pixel < end; pixel += rows)
    for_each_block(channels, [&](auto vectors, Index channel, Index count) {
      visit(vectors, pixel, smaller(pixel + rows, end), channel, count);
    });
}

template <typename T, typename Visit>
inline void for_each_chunk_of_group(const Normalization<T>& pass, Index group, Visit visit) {
  const Index begin = group * pass.pixels_per_group;
  for_each_chunk(begin, smaller(begin + pass.pixels_per_group, pass.pixels), pass.channels, visit);
}

// The mean of the values seen so far and the sum of their squared distances from it, by Chan's rule
// for merging two sets: as exact as two passes, where the mean of squares less the square of the
// mean cancels.
template <typename T>
void moments(const Normalization<T>& pass, Index group) {
  float* means = pass.sums + 2 * group * pass.channels;
  float* squares = means + pass.channels;
  const Index begin = group * pass.pixels_per_group;
  for_each_chunk_of_group(pass, group, [&](auto vectors, Index first, Index last, Index channel,
                                           Index channels) {
    constexpr int kVectors = decltype(vectors)::value;
    const Index rows = last - first, before = first - begin, stride = pass.channels;
    const T* x = pass.x + first * stride + channel;
    Vector mean[kVectors] = {}, square[kVectors] = {};
    for (Index row = 0; row < rows; row++) {
      Vector value[kVectors];
      load_row(x + row * stride, value, channels);
      for (int v = 0; v < kVectors; v++) mean[v] += value[v];
    }
    for (int v = 0; v < kVectors; v++) mean[v] *= 1.0f / rows;
    for (Index row = 0; row < rows; row++) {
      Vector value[kVectors];
      load_row(x + row * stride, value, channels);
      for (int v = 0; v < kVectors; v++) square[v] += (value[v] - mean[v]) * (value[v] - mean[v]);
    }
    if (before > 0) {
      Vector old_mean[kVectors], old_square[kVectors];
      load_row(means + channel, old_mean, channels);
      load_row(squares + channel, old_square, channels);
      const float share = static_cast<float>(rows) / (before + rows);
      for (int v = 0; v < kVectors; v++) {
        const Vector step = mean[v] - old_mean[v];
        mean[v] = old_mean[v] + step * share;
        square[v] += old_square[v] + step * step * (share * before);
      }
    }
    store_row(means + channel, mean, channels);
    store_row(squares + channel, square, channels);
  });
}

// (x - center) * factor + offset of a block of channels.
template <int kVectors>
struct Scaling {
  Vector center[kVectors], factor[kVectors], offset[kVectors];

  Scaling(const float* center, const float* factor, const float* offset, Index channel,
          Index channels) {
    load_row(center + channel, this->center, channels);
    load_row(factor + channel, this->factor, channels);
    load_row(offset + channel, this->offset, channels);
  }
  Vector operator()(Vector x, int v) const { return (x - center[v]) * factor[v] + offset[v]; }
};

// Which gradients ReLU passes. The output's sign is computed anew from x, which is read anyway,
// unless a residual was added.
enum class Mask { kNone, kOutput, kInput };

// Calls visit(Mask) with the mask as a constant.
template <typename T, typename Visit>
inline void with_mask(const Normalization<T>& pass, Visit visit) {
  if (!pass.relu)
    visit(Number<int(Mask::kNone)>());
  else if (pass.y != nullptr)
    visit(Number<int(Mask::kOutput)>());
  else
    visit(Number<int(Mask::kInput)>());
}

// The values of x and the gradients of the normalised values, 0 where ReLU did not pass.
template <Mask kMask, int kVectors, typename T>
[[gnu::always_inline]] inline void load_gradient(const Normalization<T>& pass,
                                                 const Scaling<kVectors>& scaling, Index at,
                                                 Vector (&value)[kVectors],
                                                 Vector (&gradient)[kVectors], Index channels) {
  load_row(pass.x + at, value, channels);
  load_row(pass.gradient + at, gradient, channels);
  Vector y[kVectors];
  if (kMask == Mask::kOutput) load_row(static_cast<const T*>(pass.y) + at, y, channels);
  for (int v = 0; v < kVectors; v++) {
    if (kMask == Mask::kInput) y[v] = scaling(value[v], v);
    if (kMask != Mask::kNone) gradient[v] = y[v] > 0.0f ? gradient[v] : Vector{};
  }
}

// The sum of the gradient, and of the gradient times the distance of x from its mean.
template <typename T>
void gradient_sums(const Normalization<T>& pass, Index group) {
  float* sums = pass.sums + 2 * group * pass.channels;
  float* products = sums + pass.channels;
  const Index begin = group * pass.pixels_per_group;
  with_mask(pass, [&](auto mask) {
    for_each_chunk_of_group(pass, group, [&](auto vectors, Index first, Index last, Index channel,
                                             Index channels) {
      constexpr int kVectors = decltype(vectors)::value;
      const Scaling<kVectors> scaling(pass.center, pass.factor, pass.offset, channel, channels);
      Vector sum[kVectors] = {}, product[kVectors] = {};
      for (Index pixel = first; pixel < last; pixel++) {
        Vector value[kVectors], gradient[kVectors];
        load_gradient<Mask(decltype(mask)::value)>(pass, scaling, pixel * pass.channels + channel,
                                                   value, gradient, channels);
        for (int v = 0; v < kVectors; v++) {
          sum[v] += gradient[v];
          product[v] += gradient[v] * (value[v] - scaling.center[v]);
        }
      }
      if (first > begin) {
        Vector old_sum[kVectors], old_product[kVectors];
        load_row(sums + channel, old_sum, channels);
        load_row(products + channel, old_product, channels);
        for (int v = 0; v < kVectors; v++) sum[v] += old_sum[v], product[v] += old_product[v];
      }
      store_row(sums + channel, sum, channels);
      store_row(products + channel, product, channels);
    });
  });
}

// y = (x - center) * factor + offset + residual, ReLU.
template <typename T>
void normalize(const Normalization<T>& pass, Index first, Index last) {
  const Normalization<T> p = pass;
  for_each_chunk(first, last, p.channels, [&](auto vectors, Index begin, Index end, Index channel,
                                              Index channels) {
    constexpr int kVectors = decltype(vectors)::value;
    const Scaling<kVectors> scaling(p.center, p.factor, p.offset, channel, channels);
    for (Index pixel = begin; pixel < end; pixel++) {
      const Index at = pixel * p.channels + channel;
      Vector value[kVectors];
      load_row(p.x + at, value, channels);
      for (int v = 0; v < kVectors; v++) value[v] = scaling(value[v], v);
      if (p.residual != nullptr) {
        Vector residual[kVectors];
        load_row(p.residual + at, residual, channels);
        for (int v = 0; v < kVectors; v++) value[v] += residual[v];
      }
      if (p.relu)
        for (int v = 0; v < kVectors; v++) value[v] = relu(value[v]);
      store_row(p.y + at, value, channels);
    }
  });
}

// The gradients of x and of the residual.
template <typename T>
void normalize_gradient(const Normalization<T>& pass, Index first, Index last) {
  const Normalization<T> p = pass;
  with_mask(p, [&](auto mask) {
    for_each_chunk(first, last, p.channels, [&](auto vectors, Index begin, Index end, Index channel,
                                                Index channels) {
      constexpr int kVectors = decltype(vectors)::value;
      const Scaling<kVectors> scaling(p.center, p.factor, p.offset, channel, channels);
      Vector shift[kVectors], tilt[kVectors];
      load_row(p.shift + channel, shift, channels);
      load_row(p.tilt + channel, tilt, channels);
      for (Index pixel = begin; pixel < end; pixel++) {
        const Index at = pixel * p.channels + channel;
        Vector value[kVectors], gradient[kVectors];
        load_gradient<Mask(decltype(mask)::value)>(p, scaling, at, value, gradient, channels);
        if (p.residual_gradient != nullptr) store_row(p.residual_gradient + at, gradient, channels);
        for (int v = 0; v < kVectors; v++)
          value[v] = scaling.factor[v] *
                     (gradient[v] - shift[v] - (value[v] - scaling.center[v]) * tilt[v]);
        store_row(p.x_gradient + at, value, channels);
      }
    });
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
