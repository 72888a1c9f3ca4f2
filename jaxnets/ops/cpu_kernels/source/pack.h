// Kernels as panels. Included by tiles.cc alone.

void pack(const float* kernel, Index rows, Index channels, Index first, Index width, float* panel) {
  const Index count = smaller(width, channels - first);
  for (Index row = 0; row < rows; row++) {
    const float* from = kernel + row * channels + first;
    float* to = panel + row * width;
    Index c = 0;
    for (; c + kLanes <= count; c += kLanes) store(to + c, load(from + c));
    for (; c < width; c++) to[c] = c < count ? from[c] : 0;
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

// A square of four by four, rows for columns.
inline void exchange(const float* from, Index from_stride, float* to, Index to_stride) {
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

void pack_exchanged(const float* kernel, Index channels, Index columns, Index first, Index width,
                    float* panel) {
  const Index count = smaller(width, channels - first);
  const float* from = kernel + first * columns;
  const Index square_count = count / 4 * 4, square_columns = columns / 4 * 4;
  for (Index c = 0; c < square_count; c += 4)
    for (Index column = 0; column < square_columns; column += 4)
      exchange(from + c * columns + column, columns, panel + column * width + c, width);
  for (Index column = 0; column < columns; column++)
    for (Index c = column < square_columns ? square_count : 0; c < width; c++)
      panel[column * width + c] = c < count ? from[c * columns + column] : 0;
}
