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

// The maximum of a window, and the number of its tap if `kChooses`.
template <bool kChooses, typename T>
void pool_row(const Pooling<T>& p, Index image, Index pooled_row) {
  const Index row_size = p.columns * p.channels, pooled_size = p.pooled_columns * p.channels;
  const T* x = p.x + image * p.rows * row_size;
  const T* x_end = p.x + p.images * p.rows * row_size;
  const Index out = (image * p.pooled_rows + pooled_row) * pooled_size;
  const Index top = pooled_row * p.stride_down - p.pad_top;
  Index first_down, last_down;
  clip(top, p.window_down, p.rows, &first_down, &last_down);
  for (Index pooled = 0; pooled < p.pooled_columns; pooled++) {
    const Index left = pooled * p.stride_across - p.pad_left;
    Index first_across, last_across;
    clip(left, p.window_across, p.columns, &first_across, &last_across);
    const Index last = ((last_down - 1) * p.columns + last_across - 1) * p.channels;
    for (Index c = 0; c < p.channels; c += kLanes) {
      const T* corner = x + (top * p.columns + left) * p.channels + c;
      const bool is_within = x_end - (corner + last) >= kLanes;
      Vector largest = Vector{} - __builtin_inff();
      Integers chosen =
          Integers{} + static_cast<int32_t>(first_down * p.window_across + first_across);
      for (Index down = first_down; down < last_down; down++)
        for (Index across = first_across; across < last_across; across++) {
          const T* from = corner + (down * p.columns + across) * p.channels;
          const Vector tap = is_within ? load(from) : load_within(from, x_end);
          // `>` keeps the first of equals; a NaN, which equals nothing, wins over what came before
          // it.
          const Integers wins = (tap > largest) | (tap != tap);
          largest = wins ? tap : largest;
          if (kChooses)
            chosen =
                wins ? Integers{} + static_cast<int32_t>(down * p.window_across + across) : chosen;
        }
      const Index at = pooled * p.channels + c, left_over = pooled_size - at;
      if (left_over >= kLanes)
        store(p.y + out + at, largest);
      else
        store_some(p.y + out + at, largest, left_over);
      if (!kChooses) continue;
      const Bytes numbers = narrow(chosen);
      if (left_over >= kLanes)
        *reinterpret_cast<LooseBytes*>(p.chosen + out + at) = numbers;
      else
        for (Index lane = 0; lane < left_over; lane++) p.chosen[out + at + lane] = numbers[lane];
    }
  }
}

template <typename T>
void pool(const Pooling<T>& p, Index image, Index pooled_row) {
  p.chosen == nullptr ? pool_row<false>(p, image, pooled_row) : pool_row<true>(p, image, pooled_row);
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
