// The sums of batch normalisation, [pixels][channels], single precision.
#pragma once

#include "parallel.h"
#include "plan.h"

namespace jaxnets {

// Parted by shape alone: the same bits for any number of threads. Throw std::bad_alloc.

// The mean and the biased variance of each channel.
void moments(const float* x, Index pixels, Index channels, float* mean, float* variance,
             const Tiles& tiles, Pool& pool);

// Of each channel the sum of the gradient, and of the gradient times the distance of x from the
// mean.
void moment_products(const float* x, const float* gradient, const float* mean, Index pixels,
                     Index channels, float* sums, float* products, const Tiles& tiles, Pool& pool);

}  // namespace jaxnets
