// Max pooling and its gradient, NHWC, single precision.
#pragma once

#include "parallel.h"
#include "plan.h"

namespace jaxnets {

void pool(const Pooling& pooling, const Tiles& tiles, Pool& threads);
void pool_gradient(const Pooling& pooling, const Tiles& tiles, Pool& threads);

}  // namespace jaxnets
