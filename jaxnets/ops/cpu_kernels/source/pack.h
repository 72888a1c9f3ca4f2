// A filter as panels. Included by kernels.cc only.

// Pairs of bfloat16, the first in the lower half.
inline Vector pair_up(Vector first, Vector second) {
  const Bits low = reinterpret_cast<Bits>(widen(round(first))) >> 16;
  const Bits high = reinterpret_cast<Bits>(widen(round(second)));
  return reinterpret_cast<Vector>(low | high);
}

void pack(const float* kernel, Index rows, Index padded, Index stride, Index first, Index count,
          Index width, float* panel) {
  (void)padded;
  for (Index row = 0; row < rows; row++) {
    const float* from = kernel + row * stride + first;
    Index c = 0;
    for (; c + kLanes <= count; c += kLanes) store(panel + row * width + c, load(from + c));
    for (; c < width; c++) panel[row * width + c] = c < count ? from[c] : 0;
  }
}

void pack(const float* kernel, Index rows, Index padded, Index stride, Index first, Index count,
          Index width, Bfloat16* panel) {
  for (Index row = 0; row < padded; row += 2) {
    const float* one = kernel + row * stride + first;
    const float* other = one + stride;
    const bool both = row + 1 < rows;
    Index c = 0;
    for (; row < rows && c + kLanes <= count; c += kLanes)
      store(reinterpret_cast<float*>(panel) + row / 2 * width + c,
            pair_up(load(one + c), both ? load(other + c) : Vector{}));
    for (; c < width; c++) {
      Bfloat16* pair = panel + (row / 2 * width + c) * 2;
      pair[0] = from_float<Bfloat16>(row < rows && c < count ? one[c] : 0);
      pair[1] = from_float<Bfloat16>(both && c < count ? other[c] : 0);
    }
  }
}

typedef float Four __attribute__((vector_size(16)));
typedef Four LooseFour __attribute__((aligned(4), may_alias));

#if defined(__clang__)
#define JAXNETS_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef int32_t FourIntegers __attribute__((vector_size(16)));
#define JAXNETS_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, FourIntegers{__VA_ARGS__})
#endif

// A square of four by four floats, or pairs, transposed.
inline void transpose(const float* from, Index from_stride, float* to, Index to_stride) {
  Four row[4];
  for (int i = 0; i < 4; i++) row[i] = *reinterpret_cast<const LooseFour*>(from + i * from_stride);
  const Four low_even = JAXNETS_SHUFFLE(row[0], row[2], 0, 4, 1, 5);
  const Four low_odd = JAXNETS_SHUFFLE(row[1], row[3], 0, 4, 1, 5);
  const Four high_even = JAXNETS_SHUFFLE(row[0], row[2], 2, 6, 3, 7);
  const Four high_odd = JAXNETS_SHUFFLE(row[1], row[3], 2, 6, 3, 7);
  const Four column[4] = {
      JAXNETS_SHUFFLE(low_even, low_odd, 0, 4, 1, 5),
      JAXNETS_SHUFFLE(low_even, low_odd, 2, 6, 3, 7),
      JAXNETS_SHUFFLE(high_even, high_odd, 0, 4, 1, 5),
      JAXNETS_SHUFFLE(high_even, high_odd, 2, 6, 3, 7),
  };
  for (int i = 0; i < 4; i++) *reinterpret_cast<LooseFour*>(to + i * to_stride) = column[i];
}

// [count][stride] as [columns][width], of floats or pairs.
inline void transpose_all(const float* from, Index columns, Index stride, Index count, Index width,
                          float* to) {
  const Index square_count = count / 4 * 4, square_columns = columns / 4 * 4;
  for (Index c = 0; c < square_count; c += 4)
    for (Index column = 0; column < square_columns; column += 4)
      transpose(from + c * stride + column, stride, to + column * width + c, width);
  for (Index column = 0; column < columns; column++)
    for (Index c = column < square_columns ? square_count : 0; c < width; c++)
      to[column * width + c] = c < count ? from[c * stride + column] : 0;
}

void pack_exchanged(const float* kernel, Index columns, Index padded, Index stride, Index first,
                    Index count, Index width, float* panel) {
  (void)padded;
  transpose_all(kernel + first * stride, columns, stride, count, width, panel);
}

void pack_exchanged(const float* kernel, Index columns, Index padded, Index stride, Index first,
                    Index count, Index width, Bfloat16* panel) {
  constexpr Index kColumns = 64, kRows = kWidest * kLanes < 32 ? 32 : kWidest * kLanes;
  float pairs[kRows * kColumns / 2];  // bits, never computed with
  for (Index begin = 0; begin < padded; begin += kColumns) {
    const Index here = smaller(kColumns, padded - begin);
    Bfloat16* to = reinterpret_cast<Bfloat16*>(pairs);
    for (Index c = 0; c < count; c++) {
      const float* from = kernel + (first + c) * stride + begin;
      const Index left = smaller(here, columns - begin);
      Index i = 0;
      for (; i + kLanes <= left; i += kLanes) store(to + c * kColumns + i, load(from + i));
      for (; i < here; i++) to[c * kColumns + i] = from_float<Bfloat16>(i < left ? from[i] : 0.0f);
    }
    transpose_all(pairs, here / 2, kColumns / 2, count, width,
                  reinterpret_cast<float*>(panel) + begin / 2 * width);
  }
}
