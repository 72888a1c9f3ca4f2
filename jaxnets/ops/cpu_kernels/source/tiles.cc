// The tiles of one instruction set: compiled once for each, with JAXNETS_TILES (the name of the
// table), JAXNETS_LANES (floats in a vector) and JAXNETS_REGISTERS (vector registers) defined.
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "plan.h"

namespace jaxnets {
namespace {

#include "vectors.h"

#include "channels.h"
#include "correlate.h"
#include "kernel_gradient.h"
#include "pack.h"
#include "pool.h"

}  // namespace

const Tiles JAXNETS_TILES = {
    kLanes,
    kWidest,
    {0, tallest(1), tallest(2), tallest(3), tallest(4)},
    pack,
    pack_exchanged,
    correlate,
    kernel_gradient,
    add_groups,
    pool,
    pool_gradient,
    moments,
    moment_products,
};

}  // namespace jaxnets
