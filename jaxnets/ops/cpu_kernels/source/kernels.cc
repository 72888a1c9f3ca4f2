// The kernels of one instruction set for one type. Compiled once for each, with JAXNETS_KERNELS (the
// name of the table), JAXNETS_TYPE (float or Bfloat16), JAXNETS_LANES (floats in a vector) and
// JAXNETS_REGISTERS (vector registers) defined.
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "plan.h"

namespace jaxnets {
namespace {

#include "vectors.h"

#include "correlate.h"
#include "depthwise.h"
#include "kernel_gradient.h"
#include "normalize.h"
#include "pack.h"
#include "pool.h"

}  // namespace

const KernelsOf<JAXNETS_TYPE> JAXNETS_KERNELS = {
    kLanes,
    kWidest,
    {0, tallest(1), tallest(2), tallest(3), tallest(4)},
    kStep<JAXNETS_TYPE>,
    false,
    pack,
    pack_exchanged,
    correlate<JAXNETS_TYPE>,
    kernel_gradient<JAXNETS_TYPE>,
    depthwise<JAXNETS_TYPE>,
    depthwise_kernel_gradient<JAXNETS_TYPE>,
    pool<JAXNETS_TYPE>,
    pool_gradient<JAXNETS_TYPE>,
    moments<JAXNETS_TYPE>,
    gradient_sums<JAXNETS_TYPE>,
    normalize<JAXNETS_TYPE>,
    normalize_gradient<JAXNETS_TYPE>,
    sum_of_squares<JAXNETS_TYPE>,
    add_groups,
};

}  // namespace jaxnets
