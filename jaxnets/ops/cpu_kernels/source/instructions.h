// The instruction sets that kernels are compiled for.
#pragma once

#include "plan.h"

namespace jaxnets {

// As INSTRUCTIONS in __init__.py counts them.
enum Instructions { kIsEmulatedAmx, kIsPortable, kIsAvx2, kIsAvx512, kIsAvx512Bf16, kIsAmx, kInstructions };

// Whether this CPU has them.
bool supports(int instructions);

template <typename T>
const KernelsOf<T>& kernels_of(int instructions);

}  // namespace jaxnets
