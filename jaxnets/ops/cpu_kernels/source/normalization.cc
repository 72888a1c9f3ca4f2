#include "normalization.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace jaxnets {
namespace {

constexpr Index kGroupsAtMost = 16, kValuesInGroup = 1 << 15;

// Prepares a pass that sums groups of pixels into `partial`, [groups][2][channels].
template <typename T>
Index split(Normalization<T>& pass, std::vector<float>& partial) {
  const Index values = pass.pixels * pass.channels;
  const Index wanted =
      std::clamp<Index>(values / kValuesInGroup, 1, std::min(kGroupsAtMost, pass.pixels));
  pass.pixels_per_group = (pass.pixels + wanted - 1) / wanted;
  partial.resize(2 * wanted * pass.channels);
  pass.sums = partial.data();
  return (pass.pixels + pass.pixels_per_group - 1) / pass.pixels_per_group;
}

// Calls visit(first pixel, last pixel) for pieces of all pixels, the last ones first: they were read
// last, so that caches still have them.
template <typename Visit>
void for_each_piece(Index pixels, Index channels, Pool& pool, Visit visit) {
  const Index size = std::max<Index>(kValuesInGroup / channels, 1);
  const Index pieces = (pixels + size - 1) / size;
  for_each(pool, pieces, [&](Index i) {
    const Index first = (pieces - 1 - i) * size;
    visit(first, std::min(first + size, pixels));
  });
}

float deviation(float variance, float epsilon) { return 1.0f / std::sqrt(variance + epsilon); }

}  // namespace

template <typename T>
void moments(Normalization<T> pass, float* mean, float* variance, const KernelsOf<T>& kernels,
             Pool& pool) {
  std::vector<float> partial;
  const Index groups = split(pass, partial);
  for_each(pool, groups, [&](Index group) { kernels.moments(pass, group); });
  for (Index channel = 0; channel < pass.channels; channel++) {
    double merged = 0, squares = 0, count = 0;
    for (Index group = 0; group < groups; group++) {
      const float* here = partial.data() + 2 * group * pass.channels + channel;
      const double more =
          std::min(pass.pixels_per_group, pass.pixels - group * pass.pixels_per_group);
      const double step = here[0] - merged;
      squares += here[pass.channels] + step * step * count * more / (count + more);
      count += more;
      merged += step * more / count;
    }
    mean[channel] = static_cast<float>(merged);
    variance[channel] = static_cast<float>(squares / count);
  }
}

template <typename T>
void normalize(Normalization<T> pass, const float* mean, const float* variance, const float* scale,
               const float* bias, float epsilon, const KernelsOf<T>& kernels, Pool& pool) {
  std::vector<float> factor(pass.channels);
  for (Index channel = 0; channel < pass.channels; channel++)
    factor[channel] = scale[channel] * deviation(variance[channel], epsilon);
  pass.center = mean, pass.factor = factor.data(), pass.offset = bias;
  for_each_piece(pass.pixels, pass.channels, pool,
                 [&](Index first, Index last) { kernels.normalize(pass, first, last); });
}

template <typename T>
void normalize_gradient(Normalization<T> pass, const float* mean, const float* variance,
                        const float* scale, const float* bias, float epsilon,
                        float* scale_gradient, float* bias_gradient, const KernelsOf<T>& kernels,
                        Pool& pool) {
  std::vector<float> partial, factor(pass.channels), shift(pass.channels), tilt(pass.channels);
  for (Index channel = 0; channel < pass.channels; channel++)
    factor[channel] = scale[channel] * deviation(variance[channel], epsilon);
  pass.center = mean, pass.factor = factor.data(), pass.offset = bias;
  const Index groups = split(pass, partial);
  for_each(pool, groups, [&](Index group) { kernels.gradient_sums(pass, group); });
  for (Index channel = 0; channel < pass.channels; channel++) {
    float sum = 0, product = 0;
    for (Index group = 0; group < groups; group++) {
      sum += partial[2 * group * pass.channels + channel];
      product += partial[(2 * group + 1) * pass.channels + channel];
    }
    const float by = deviation(variance[channel], epsilon), count = static_cast<float>(pass.pixels);
    bias_gradient[channel] = sum, scale_gradient[channel] = product * by;
    shift[channel] = sum / count, tilt[channel] = product * (by * by) / count;
  }
  pass.shift = shift.data(), pass.tilt = tilt.data();
  for_each_piece(pass.pixels, pass.channels, pool,
                 [&](Index first, Index last) { kernels.normalize_gradient(pass, first, last); });
}

template <typename T>
double sum_of_squares(const std::vector<Values<T>>& arrays, const KernelsOf<T>& kernels, Pool& pool) {
  std::vector<Values<T>> pieces;
  for (const Values<T>& array : arrays)
    for (Index i = 0; i < array.count; i += kValuesInGroup)
      pieces.push_back({array.values + i, std::min(kValuesInGroup, array.count - i)});
  std::vector<float> sums(pieces.size());
  const Index together = 16, count = pieces.size();
  for_each(pool, (count + together - 1) / together, [&](Index i) {
    for (Index piece = i * together; piece < std::min((i + 1) * together, count); piece++)
      sums[piece] = kernels.sum_of_squares(pieces[piece].values, pieces[piece].count);
  });
  double total = 0;
  for (const float sum : sums) total += sum;
  return total;
}

#define JAXNETS_INSTANTIATE(T)                                                                   \
  template void moments(Normalization<T>, float*, float*, const KernelsOf<T>&, Pool&);           \
  template void normalize(Normalization<T>, const float*, const float*, const float*,            \
                          const float*, float, const KernelsOf<T>&, Pool&);                      \
  template void normalize_gradient(Normalization<T>, const float*, const float*, const float*,   \
                                   const float*, float, float*, float*, const KernelsOf<T>&,     \
                                   Pool&);                                                       \
  template double sum_of_squares(const std::vector<Values<T>>&, const KernelsOf<T>&, Pool&);

JAXNETS_INSTANTIATE(float)
JAXNETS_INSTANTIATE(Bfloat16)

}  // namespace jaxnets
