// Max pooling by rows. Included by kernels.cc only.
//
// Channels are few in the networks where pooling matters most, so vectors reach over the end of a
// pixel: what they read beyond it is not used, and what they write beyond it the next pixel writes
// again. A vector is cut only where it would leave the row.

// The values from `from` on, as far as the tensor goes.
template <typename T>
inline Vector load_within(const T* from, const T* end) {
  return end - from >= kLanes ? load(from) : load_some(from, end - from);
}

inline Integers load_within(const int8_t* from, const int8_t* end) {
  Bytes bytes = {};
  if (end - from >= kLanes)
    bytes = *reinterpret_cast<const LooseBytes*>(from);
  else
    for (Index lane = 0; lane < end - from; lane++) bytes[lane] = from[lane];
  return widen(bytes);
}

// The taps of a window that are inside, from `first` to before `last`, where the window begins at
// `start`.
inline void clip(Index start, Index window, Index size, Index* first, Index* last) {
  *first = start < 0 ? -start : 0;
  *last = smaller(window, size - start);
}

// The taps of a window that are inside.
struct Taps {
  Index first_down, last_down, first_across, last_across;
};

// The maxima of neighbouring channels of one window, and the numbers of their taps if `kChooses`.
// `is_within` says that no vector leaves the tensor.
template <bool kChooses, int kVectors, typename T>
[[gnu::always_inline]] inline void pool_window(const Pooling<T>& p, const Taps& taps,
                                               const T* corner, bool is_within,
                                               Vector (&largest)[kVectors],
                                               Integers (&chosen)[kVectors]) {
  const T* x_end = p.x + p.images * p.rows * p.columns * p.channels;
  const Index first = taps.first_down * p.window_across + taps.first_across;
  for (int v = 0; v < kVectors; v++) {
    largest[v] = Vector{} - __builtin_inff();
    chosen[v] = Integers{} + static_cast<int32_t>(first);
  }
  for (Index down = taps.first_down; down < taps.last_down; down++)
    for (Index across = taps.first_across; across < taps.last_across; across++) {
      const T* from = corner + (down * p.columns + across) * p.channels;
      const int32_t number = static_cast<int32_t>(down * p.window_across + across);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; v++) {
        const T* at = from + v * kLanes;
        const Vector tap = is_within ? load(at) : load_within(at, x_end);
        // `>` keeps the first of equals; a NaN, which equals nothing, wins over what came before it.
        const Integers wins = (tap > largest[v]) | (tap != tap);
        largest[v] = wins ? tap : largest[v];
        if (kChooses) chosen[v] = wins ? Integers{} + number : chosen[v];
      }
    }
}

inline void store_numbers(int8_t* to, Integers chosen, Index count) {
  const Bytes numbers = narrow(chosen);
  if (count >= kLanes)
    *reinterpret_cast<LooseBytes*>(to) = numbers;
  else
    for (Index lane = 0; lane < count; lane++) to[lane] = numbers[lane];
}

template <bool kChooses, typename T>
void pool_row(const Pooling<T>& p, Index image, Index pooled_row) {
  constexpr int kTogether = 4;
  const Index row_size = p.columns * p.channels, pooled_size = p.pooled_columns * p.channels;
  const T* x = p.x + image * p.rows * row_size;
  const T* x_end = p.x + p.images * p.rows * row_size;
  T* y = p.y + (image * p.pooled_rows + pooled_row) * pooled_size;
  int8_t* numbers = p.chosen + (image * p.pooled_rows + pooled_row) * pooled_size;
  const Index top = pooled_row * p.stride_down - p.pad_top;
  Taps taps;
  clip(top, p.window_down, p.rows, &taps.first_down, &taps.last_down);
  for (Index pooled = 0; pooled < p.pooled_columns; pooled++) {
    const Index left = pooled * p.stride_across - p.pad_left;
    clip(left, p.window_across, p.columns, &taps.first_across, &taps.last_across);
    const T* corner = x + (top * p.columns + left) * p.channels;
    const Index last =
        ((taps.last_down - 1) * p.columns + taps.last_across - 1) * p.channels;
    Index c = 0;
    for (; c + kTogether * kLanes <= p.channels; c += kTogether * kLanes) {
      Vector largest[kTogether];
      Integers chosen[kTogether];
      pool_window<kChooses>(p, taps, corner + c, true, largest, chosen);
      for (int v = 0; v < kTogether; v++) {
        const Index at = pooled * p.channels + c + v * kLanes;
        store(y + at, largest[v]);
        if (kChooses) store_numbers(numbers + at, chosen[v], kLanes);
      }
    }
    for (; c < p.channels; c += kLanes) {
      Vector largest[1];
      Integers chosen[1];
      const bool is_within = x_end - (corner + c + last) >= kLanes;
      pool_window<kChooses>(p, taps, corner + c, is_within, largest, chosen);
      const Index at = pooled * p.channels + c, left_over = pooled_size - at;
      if (left_over >= kLanes)
        store(y + at, largest[0]);
      else
        store_some(y + at, largest[0], left_over);
      if (kChooses) store_numbers(numbers + at, chosen[0], left_over);
    }
  }
}

inline Vector larger(Vector largest, Vector tap) {
  const Integers wins = (tap > largest) | (tap != tap);
  return wins ? tap : largest;
}

constexpr int kVectorsHeld = 2048 * 4 / kLanes;  // 32 KB, of columns' maxima

// Without numbers, where windows overlap and channels fill their vectors. The maxima of each column of
// the windows' rows come first, so that pixels are read in the order of memory and only once for a row of
// windows; then those of neighbouring columns.
template <typename T>
void pool_row_by_columns(const Pooling<T>& p, Index image, Index pooled_row) {
  Vector held[kVectorsHeld];
  const T* x = p.x + image * p.rows * p.columns * p.channels;
  T* y = p.y + (image * p.pooled_rows + pooled_row) * p.pooled_columns * p.channels;
  const Index top = pooled_row * p.stride_down - p.pad_top, row_size = p.columns * p.channels;
  Taps taps;
  clip(top, p.window_down, p.rows, &taps.first_down, &taps.last_down);
  // Vectors across, columns held, windows that these fill.
  const Index across = smaller(p.channels / kLanes, kVectorsHeld / p.window_across);
  const Index windows = (kVectorsHeld / across - p.window_across) / p.stride_across + 1;
  for (Index first_channel = 0; first_channel < p.channels; first_channel += across * kLanes) {
    const Index vectors = smaller(across, (p.channels - first_channel) / kLanes);
    for (Index first = 0; first < p.pooled_columns; first += windows) {
      const Index last = smaller(first + windows, p.pooled_columns);
      const Index left = first * p.stride_across - p.pad_left, begin = left < 0 ? 0 : left;
      const Index end =
          smaller((last - 1) * p.stride_across - p.pad_left + p.window_across, p.columns);
      for (Index column = begin; column < end; column++) {
        const T* from = x + top * row_size + column * p.channels + first_channel;
        Vector* to = held + (column - begin) * vectors;
        for (Index v = 0; v < vectors; v++) {
          Vector largest = Vector{} - __builtin_inff();
          for (Index down = taps.first_down; down < taps.last_down; down++)
            largest = larger(largest, load(from + down * row_size + v * kLanes));
          to[v] = largest;
        }
      }
      for (Index pooled = first; pooled < last; pooled++) {
        const Index corner = pooled * p.stride_across - p.pad_left;
        clip(corner, p.window_across, p.columns, &taps.first_across, &taps.last_across);
        const Vector* from = held + (corner - begin) * vectors;
        T* to = y + pooled * p.channels + first_channel;
        for (Index v = 0; v < vectors; v++) {
          Vector largest = Vector{} - __builtin_inff();
          for (Index tap = taps.first_across; tap < taps.last_across; tap++)
            largest = larger(largest, from[tap * vectors + v]);
          store(to + v * kLanes, largest);
        }
      }
    }
  }
}

template <typename T>
void pool(const Pooling<T>& p, Index image, Index pooled_row) {
  const bool overlap = p.stride_across < p.window_across && p.channels % kLanes == 0;
  if (p.chosen != nullptr)
    pool_row<true>(p, image, pooled_row);
  else if (overlap)
    pool_row_by_columns(p, image, pooled_row);
  else
    pool_row<false>(p, image, pooled_row);
}

template <typename T>
void pool_gradient(const Pooling<T>& p, Index image, Index row) {
  const Index row_size = p.columns * p.channels, pooled_size = p.pooled_columns * p.channels;
  const Index out = image * p.pooled_rows * pooled_size,
              end = p.images * p.pooled_rows * pooled_size;
  T* x_gradient = p.x_gradient + (image * p.rows + row) * row_size;
  const Windows down = p.rows_windows[row];
  for (Index column = 0; column < p.columns; column++) {
    const Windows across = p.columns_windows[column];
    for (Index c = 0; c < p.channels; c += kLanes) {
      Vector total = {};
      // From the last window to the first, so that taps come in their order: the bits of the form
      // in JAX.
      for (Index i = down.last; i >= down.first; i--) {
        const Index tap_row = (row + p.pad_top - i * p.stride_down) * p.window_across;
        for (Index j = across.last; j >= across.first; j--) {
          const Index tap = tap_row + column + p.pad_left - j * p.stride_across;
          const Index at = out + (i * p.pooled_columns + j) * p.channels + c;
          const Integers here =
              load_within(p.chosen + at, p.chosen + end) == static_cast<int32_t>(tap);
          total += here ? load_within(p.gradient + at, p.gradient + end) : Vector{};
        }
      }
      const Index at = column * p.channels + c, left_over = row_size - at;
      if (left_over >= kLanes)
        store(x_gradient + at, total);
      else
        store_some(x_gradient + at, total, left_over);
    }
  }
}
