// Vectors of one instruction set. Included by tiles.cc alone, inside its own namespace.
//
// GCC's and Clang's vector extensions, not intrinsics: one text for every instruction set.

constexpr int kLanes = JAXNETS_LANES;
constexpr int kRegisters = JAXNETS_REGISTERS;

// Of the registers a quarter holds what is multiplied; the rest are sums.
constexpr int kSums = kRegisters * 3 / 4;
constexpr int kWidest = kRegisters / 8;
// Pixels, or floats of a run, in a tile of so many vectors across; more than 10 pointers would not
// fit into general registers.
constexpr int tallest(int vectors) { return kSums / vectors < 10 ? kSums / vectors : 10; }

typedef float Vector __attribute__((vector_size(4 * kLanes)));
typedef int32_t Integers __attribute__((vector_size(4 * kLanes)));
typedef int8_t Bytes __attribute__((vector_size(kLanes)));

// As they lie in memory: at any address, and beside plain floats.
typedef Vector LooseVector __attribute__((aligned(4), may_alias));
typedef Bytes LooseBytes __attribute__((aligned(1), may_alias));

inline Vector load(const float* from) { return *reinterpret_cast<const LooseVector*>(from); }
inline void store(float* to, Vector value) { *reinterpret_cast<LooseVector*>(to) = value; }

// The first `count` lanes alone. Such loops over all lanes become one masked instruction.
inline Vector load_some(const float* from, Index count) {
  float lanes[kLanes];
#pragma GCC unroll 1
  for (int lane = 0; lane < kLanes; lane++)
    lanes[lane] = lane < static_cast<int>(count) ? from[lane] : 0.0f;
  return load(lanes);
}

inline void store_some(float* to, Vector value, Index count) {
  float lanes[kLanes];
  store(lanes, value);
#pragma GCC unroll 1
  for (int lane = 0; lane < kLanes; lane++)
    if (lane < static_cast<int>(count)) to[lane] = lanes[lane];
}

// Bytes as integers and back. GCC's own conversion goes lane by lane: hence intrinsics, if any.
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

inline Index smaller(Index a, Index b) { return a < b ? a : b; }

// As much of a row of vectors as there are channels.
template <int kVectors>
inline void store_row(float* to, const Vector (&row)[kVectors], Index channels) {
  if (channels >= kVectors * kLanes) {
    for (int v = 0; v < kVectors; v++) store(to + v * kLanes, row[v]);
    return;
  }
  for (int v = 0; v < kVectors && v * kLanes < channels; v++)
    store_some(to + v * kLanes, row[v], smaller(channels - v * kLanes, kLanes));
}

template <int kVectors>
inline void load_row(const float* from, Vector (&row)[kVectors], Index channels) {
  if (channels >= kVectors * kLanes) {
    for (int v = 0; v < kVectors; v++) row[v] = load(from + v * kLanes);
    return;
  }
  for (int v = 0; v < kVectors; v++)
    row[v] = load_some(from + v * kLanes, smaller(channels - v * kLanes, kLanes));
}
