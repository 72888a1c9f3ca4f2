#include "normalization.h"

#include <algorithm>
#include <vector>

namespace jaxnets {
namespace {

constexpr Index kGroupsAtMost = 16, kFloatsInGroup = 1 << 15;

// The pass over `pixels`, its partial sums as [groups][2][channels] in `partial`.
ChannelSums pass_over(const float* x, Index pixels, Index channels, std::vector<float>& partial) {
  ChannelSums pass = {};
  pass.x = x, pass.pixels = pixels, pass.channels = channels;
  const Index groups =
      std::clamp<Index>(pixels * channels / kFloatsInGroup, 1, std::min(kGroupsAtMost, pixels));
  pass.pixels_per_group = (pixels + groups - 1) / groups;
  partial.resize(2 * groups * channels);
  pass.sums = partial.data();
  return pass;
}

Index groups_of(const ChannelSums& pass) {
  return (pass.pixels + pass.pixels_per_group - 1) / pass.pixels_per_group;
}

}  // namespace

void moments(const float* x, Index pixels, Index channels, float* mean, float* variance,
             const Tiles& tiles, Pool& pool) {
  std::vector<float> partial;
  const ChannelSums pass = pass_over(x, pixels, channels, partial);
  const Index groups = groups_of(pass);
  for_each(pool, groups, [&](Index group) { tiles.moments(pass, group); });
  for (Index channel = 0; channel < channels; channel++) {
    double merged = 0, squares = 0, count = 0;
    for (Index group = 0; group < groups; group++) {
      const float* here = partial.data() + 2 * group * channels + channel;
      const double more = std::min(pass.pixels_per_group, pixels - group * pass.pixels_per_group);
      const double step = here[0] - merged;
      squares += here[channels] + step * step * count * more / (count + more);
      count += more;
      merged += step * more / count;
    }
    mean[channel] = static_cast<float>(merged);
    variance[channel] = static_cast<float>(squares / count);
  }
}

void moment_products(const float* x, const float* gradient, const float* mean, Index pixels,
                     Index channels, float* sums, float* products, const Tiles& tiles, Pool& pool) {
  std::vector<float> partial;
  ChannelSums pass = pass_over(x, pixels, channels, partial);
  pass.gradient = gradient, pass.mean = mean;
  const Index groups = groups_of(pass);
  for_each(pool, groups, [&](Index group) { tiles.moment_products(pass, group); });
  for (Index channel = 0; channel < channels; channel++) {
    float sum = 0, product = 0;
    for (Index group = 0; group < groups; group++) {
      sum += partial[2 * group * channels + channel];
      product += partial[(2 * group + 1) * channels + channel];
    }
    sums[channel] = sum, products[channel] = product;
  }
}

}  // namespace jaxnets
