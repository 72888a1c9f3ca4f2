#include "pooling.h"

#include <algorithm>
#include <vector>

namespace jaxnets {
namespace {

constexpr Index kValuesInPiece = 1 << 14;  // less than this costs more to hand out than to compute
constexpr Index kPiecesForThread = 8;      // windows overlap: rows of a piece share what they read

template <typename Row>
void for_each_row(Index rows, Index values_in_row, Pool& threads, Row row) {
  const Index size = std::max({kValuesInPiece / std::max<Index>(values_in_row, 1),
                               rows / (kPiecesForThread * threads.threads()), Index{1}});
  for_each(threads, (rows + size - 1) / size, [&](Index i) {
    for (Index r = i * size; r < std::min((i + 1) * size, rows); r++) row(r);
  });
}

std::vector<Windows> windows_of(Index places, Index pad, Index window, Index stride, Index pooled) {
  std::vector<Windows> windows(places);
  for (Index place = 0; place < places; place++) {
    const Index least =
        place + pad - window + 1;  // where a window may begin at the earliest, in padding too
    windows[place].first = least <= 0 ? 0 : (least + stride - 1) / stride;
    windows[place].last = std::min((place + pad) / stride, pooled - 1);
  }
  return windows;
}

}  // namespace

template <typename T>
void pool(const Pooling<T>& p, const KernelsOf<T>& kernels, Pool& threads) {
  const Index taps = p.window_down * p.window_across;
  for_each_row(p.images * p.pooled_rows, p.pooled_columns * p.channels * taps, threads,
               [&](Index row) { kernels.pool(p, row / p.pooled_rows, row % p.pooled_rows); });
}

template <typename T>
void pool_gradient(const Pooling<T>& pooling, const KernelsOf<T>& kernels, Pool& threads) {
  Pooling<T> p = pooling;
  const auto rows = windows_of(p.rows, p.pad_top, p.window_down, p.stride_down, p.pooled_rows);
  const auto columns =
      windows_of(p.columns, p.pad_left, p.window_across, p.stride_across, p.pooled_columns);
  p.rows_windows = rows.data(), p.columns_windows = columns.data();
  for_each_row(p.images * p.rows, p.columns * p.channels * 2, threads,
               [&](Index row) { kernels.pool_gradient(p, row / p.rows, row % p.rows); });
}

template void pool(const Pooling<float>&, const KernelsOf<float>&, Pool&);
template void pool(const Pooling<Bfloat16>&, const KernelsOf<Bfloat16>&, Pool&);
template void pool_gradient(const Pooling<float>&, const KernelsOf<float>&, Pool&);
template void pool_gradient(const Pooling<Bfloat16>&, const KernelsOf<Bfloat16>&, Pool&);

}  // namespace jaxnets
