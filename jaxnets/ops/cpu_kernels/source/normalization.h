// Batch normalisation of [pixels][channels], in float or bfloat16, and the norm of several arrays;
// statistics are float.
#pragma once

#include <vector>

#include "parallel.h"
#include "plan.h"

namespace jaxnets {

// Values are summed in groups that depend on the shape only: the same bits for any number of
// threads. All functions throw std::bad_alloc.

// The mean and the biased variance of each channel of pass.x.
template <typename T>
void moments(Normalization<T> pass, float* mean, float* variance, const KernelsOf<T>& kernels,
             Pool& pool);

// pass.y = (x - mean) * scale / sqrt(variance + epsilon) + bias + residual, ReLU.
template <typename T>
void normalize(Normalization<T> pass, const float* mean, const float* variance, const float* scale,
               const float* bias, float epsilon, const KernelsOf<T>& kernels, Pool& pool);

// The gradients of x, of the residual, of scale and of bias, where mean and variance are those of x.
template <typename T>
void normalize_gradient(Normalization<T> pass, const float* mean, const float* variance,
                        const float* scale, const float* bias, float epsilon,
                        float* scale_gradient, float* bias_gradient, const KernelsOf<T>& kernels,
                        Pool& pool);

// Values that belong together, such as the gradients of all parameters.
template <typename T>
struct Values {
  const T* values;
  Index count;
};

template <typename T>
double sum_of_squares(const std::vector<Values<T>>& arrays, const KernelsOf<T>& kernels, Pool& pool);

}  // namespace jaxnets
