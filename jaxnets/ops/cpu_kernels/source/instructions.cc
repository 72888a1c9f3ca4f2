#include "instructions.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "convolution.h"

namespace jaxnets {
namespace {

#ifdef JAXNETS_X86
// Whether the CPU has tiles of bfloat16, and the kernel lets this process use them.
bool has_amx() {
  unsigned eax, ebx, ecx, edx;
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return false;
  constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;
  if (!(edx & kAmxBf16) || !(edx & kAmxTile)) return false;
#if defined(__linux__) && defined(SYS_arch_prctl)
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  static const bool permitted = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return permitted;
#else
  return false;
#endif
}
#endif

}  // namespace

bool supports(int instructions) {
  switch (instructions) {
    case kIsEmulatedAmx:
    case kIsPortable: return true;
#ifdef JAXNETS_X86
    case kIsAvx2: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case kIsAvx512:
      return supports(kIsAvx2) && __builtin_cpu_supports("avx512f") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vl");
    case kIsAvx512Bf16: return supports(kIsAvx512) && __builtin_cpu_supports("avx512bf16");
    case kIsAmx: return supports(kIsAvx512Bf16) && has_amx();
#endif
    default: return false;
  }
}

template <>
const KernelsOf<float>& kernels_of<float>(int instructions) {
#ifdef JAXNETS_X86
  if (instructions >= kIsAvx512) return kAvx512;
  if (instructions == kIsAvx2) return kAvx2;
#endif
  return kPortable;
}

// Without instructions for bfloat16 its products are computed in float: slower, for tests.
template <>
const KernelsOf<Bfloat16>& kernels_of<Bfloat16>(int instructions) {
#ifdef JAXNETS_X86
  static const KernelsOf<Bfloat16> amx = with_tiles(kAvx512Bf16Half, kAmx);
  if (instructions == kIsAmx) return amx;
  if (instructions == kIsAvx512Bf16) return kAvx512Bf16Half;
  if (instructions >= kIsAvx2) return kAvx2Half;
#endif
  static const KernelsOf<Bfloat16> emulated = with_tiles(kPortableHalf, kEmulatedAmx);
  return instructions == kIsEmulatedAmx ? emulated : kPortableHalf;
}

}  // namespace jaxnets
