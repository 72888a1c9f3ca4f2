// Max pooling and its gradient, NHWC, float or bfloat16.
#pragma once

#include "parallel.h"
#include "plan.h"

namespace jaxnets {

template <typename T>
void pool(const Pooling<T>& pooling, const KernelsOf<T>& kernels, Pool& threads);
template <typename T>
void pool_gradient(const Pooling<T>& pooling, const KernelsOf<T>& kernels, Pool& threads);

}  // namespace jaxnets
