// Vectors of one instruction set. Included by kernels.cc only, inside its own namespace.
//
// Mostly GCC's and Clang's vector extensions, so that one text serves every instruction set.

constexpr int kLanes = JAXNETS_LANES;
constexpr int kRegisters = JAXNETS_REGISTERS;

// A quarter of the registers holds factors; the others hold sums.
constexpr int kSums = kRegisters * 3 / 4;
constexpr int kWidest = kRegisters / 8;
// Pixels, or values of a run, in a tile of so many vectors across. More than 10 pointers do not fit
// into general registers.
constexpr int tallest(int vectors) { return kSums / vectors < 10 ? kSums / vectors : 10; }

typedef float Vector __attribute__((vector_size(4 * kLanes)));
typedef int32_t Integers __attribute__((vector_size(4 * kLanes)));
typedef uint32_t Bits __attribute__((vector_size(4 * kLanes)));
typedef uint16_t Halves __attribute__((vector_size(2 * kLanes)));
typedef int8_t Bytes __attribute__((vector_size(kLanes)));

// As they lie in memory: at any address, and beside plain floats.
typedef Vector LooseVector __attribute__((aligned(4), may_alias));
typedef Halves LooseHalves __attribute__((aligned(2), may_alias));
typedef Bytes LooseBytes __attribute__((aligned(1), may_alias));
typedef uint32_t LooseBits __attribute__((aligned(2), may_alias));

inline Index smaller(Index a, Index b) { return a < b ? a : b; }

template <int kNumber>
struct Number {
  static constexpr int value = kNumber;
};

// Calls visit(Number<number>()), for a number from 1 to kMost.
template <int kMost, typename Visit>
inline void with_number(Index number, Visit visit) {
  if constexpr (kMost > 1)
    if (number < kMost) return with_number<kMost - 1>(number, visit);
  visit(Number<kMost>());
}

// Integers of different sizes. GCC converts some of them lane by lane: hence intrinsics.
inline Integers widen(Bytes bytes) {
#if defined(__AVX512BW__)
  return reinterpret_cast<Integers>(_mm512_cvtepi8_epi32(reinterpret_cast<__m128i>(bytes)));
#elif defined(__AVX2__)
  return reinterpret_cast<Integers>(
      _mm256_cvtepi8_epi32(_mm_cvtsi64_si128(reinterpret_cast<int64_t>(bytes))));
#else
  return __builtin_convertvector(bytes, Integers);
#endif
}

inline Bytes narrow(Integers integers) {
#if defined(__AVX512BW__)
  return reinterpret_cast<Bytes>(_mm512_cvtepi32_epi8(reinterpret_cast<__m512i>(integers)));
#else
  return __builtin_convertvector(integers, Bytes);
#endif
}

inline Vector widen(Halves halves) {
#if defined(__AVX512BW__)
  const __m512i bits = _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(halves));
  return reinterpret_cast<Vector>(_mm512_slli_epi32(bits, 16));
#elif defined(__AVX2__)
  const __m256i bits = _mm256_cvtepu16_epi32(reinterpret_cast<__m128i>(halves));
  return reinterpret_cast<Vector>(_mm256_slli_epi32(bits, 16));
#else
  return reinterpret_cast<Vector>(__builtin_convertvector(halves, Bits) << 16);
#endif
}

// Rounds to the nearest bfloat16, ties to even; NaN remains NaN.
inline Halves round(Vector values) {
#if defined(__AVX512BF16__)
  return reinterpret_cast<Halves>(_mm512_cvtneps_pbh(reinterpret_cast<__m512>(values)));
#else
  const Bits bits = reinterpret_cast<Bits>(values);
  const Bits rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  const Bits upper = (values == values ? rounded : bits | 0x400000u) >> 16;
#if defined(__AVX512BW__)
  return reinterpret_cast<Halves>(_mm512_cvtepi32_epi16(reinterpret_cast<__m512i>(upper)));
#elif defined(__AVX2__)
  const __m256i packed = _mm256_packus_epi32(reinterpret_cast<__m256i>(upper), _mm256_setzero_si256());
  return reinterpret_cast<Halves>(
      _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0b1000)));
#else
  return __builtin_convertvector(upper, Halves);
#endif
#endif
}

inline float to_float(float value) { return value; }
inline float to_float(Bfloat16 value) {
  const uint32_t bits = uint32_t(value.bits) << 16;
  float result;
  __builtin_memcpy(&result, &bits, sizeof result);
  return result;
}

template <typename T>
inline T from_float(float value);
template <>
inline float from_float<float>(float value) {
  return value;
}
template <>
inline Bfloat16 from_float<Bfloat16>(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  if (value != value) return {uint16_t((bits | 0x400000u) >> 16)};
  return {uint16_t((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

// Loads and stores of kLanes values, in memory float or Bfloat16.
inline Vector load(const float* from) { return *reinterpret_cast<const LooseVector*>(from); }
inline Vector load(const Bfloat16* from) {
  return widen(Halves(*reinterpret_cast<const LooseHalves*>(from)));
}
inline void store(float* to, Vector value) { *reinterpret_cast<LooseVector*>(to) = value; }
inline void store(Bfloat16* to, Vector value) {
  *reinterpret_cast<LooseHalves*>(to) = round(value);
}

// The same of the first `count` lanes. For floats the loop over all lanes becomes one masked
// instruction.
template <typename T>
inline Vector load_some(const T* from, Index count) {
  T lanes[kLanes];
#pragma GCC unroll 1
  for (int lane = 0; lane < kLanes; lane++)
    lanes[lane] = lane < static_cast<int>(count) ? from[lane] : T{};
  return load(lanes);
}

template <typename T>
inline void store_some(T* to, Vector value, Index count) {
  T lanes[kLanes];
  store(lanes, value);
#pragma GCC unroll 1
  for (int lane = 0; lane < kLanes; lane++)
    if (lane < static_cast<int>(count)) to[lane] = lanes[lane];
}

// A row of vectors, as far as there are channels.
template <int kVectors, typename T>
[[gnu::always_inline]] inline void store_row(T* to, const Vector (&row)[kVectors], Index channels) {
  if (channels >= kVectors * kLanes) {
    for (int v = 0; v < kVectors; v++) store(to + v * kLanes, row[v]);
    return;
  }
  for (int v = 0; v < kVectors && v * kLanes < channels; v++)
    store_some(to + v * kLanes, row[v], smaller(channels - v * kLanes, kLanes));
}

template <int kVectors, typename T>
[[gnu::always_inline]] inline void load_row(const T* from, Vector (&row)[kVectors], Index channels) {
  if (channels >= kVectors * kLanes) {
    for (int v = 0; v < kVectors; v++) row[v] = load(from + v * kLanes);
    return;
  }
  for (int v = 0; v < kVectors; v++)
    row[v] = load_some(from + v * kLanes, smaller(channels - v * kLanes, kLanes));
}

inline Vector relu(Vector value) {
  // NaN remains NaN, as in XLA and PyTorch.
  return value < 0.0f ? Vector{} : value;
}

// What multiplies: one value of a run and a vector of weights, or a pair and a vector of pairs.
template <typename T>
constexpr Index kStep = 1;
template <>
constexpr Index kStep<Bfloat16> = 2;

inline Vector load_weights(const float* from) { return load(from); }
inline Vector load_weights(const Bfloat16* from) { return load(reinterpret_cast<const float*>(from)); }

inline void multiply_add(Vector& sum, const float* from, Vector weights) { sum += *from * weights; }

// sum + from[0] * the first of each pair + from[1] * the second.
inline void multiply_add(Vector& sum, const Bfloat16* from, Vector weights) {
  const uint32_t pair = *reinterpret_cast<const LooseBits*>(from);
#if defined(__AVX512BF16__)
  sum = reinterpret_cast<Vector>(_mm512_dpbf16_ps(
      reinterpret_cast<__m512>(sum), reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair)),
      reinterpret_cast<__m512bh>(weights)));
#else
  const Bits pairs = Bits{} + pair, others = reinterpret_cast<Bits>(weights);
  sum += reinterpret_cast<Vector>(pairs << 16) * reinterpret_cast<Vector>(others << 16);
  sum += reinterpret_cast<Vector>(pairs & 0xffff0000u) *
         reinterpret_cast<Vector>(others & 0xffff0000u);
#endif
}
