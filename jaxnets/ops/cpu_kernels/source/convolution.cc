#include "convolution.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include <numeric>
#include <vector>

namespace jaxnets {
namespace {

constexpr Index kTilesInPiece = 32;
constexpr Index kPiecesForThread = 4;    // so that one that is late does not keep the others
constexpr Index kSmallKernel = 1 << 15;  // floats that are packed sooner than other threads wake
constexpr Index kFloatsHeld = 1 << 16;   // of panels, half of a core's second cache or less
constexpr Index kSmallMap = 256;    // pixels of a map on which the images of a place go together
constexpr Index kFewChannels = 16;  // less than that, and taps side by side are read as one

constexpr Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }

struct Free {
  void operator()(float* floats) const { std::free(floats); }
};
using Floats = std::unique_ptr<float[], Free>;

Floats allocate(Index count) {
  const std::size_t bytes = static_cast<std::size_t>(ceil_div(count, 16)) * 64;
  void* floats = std::aligned_alloc(64, std::max<std::size_t>(bytes, 64));
  if (floats == nullptr) throw std::bad_alloc();
  return Floats(static_cast<float*>(floats));
}

// A Reach and the tables that it points to.
struct Map {
  Reach reach = {};
  std::vector<Index> row_offset, column_offset, distance;
  std::unique_ptr<bool[]> row_is_inside, column_is_inside;
  Floats padded;

  // Fills in what follows from the offsets; `step` of them lies between neighbouring taps.
  void finish(Index step_down, Index step_across) {
    reach.row_offset = row_offset.data(), reach.column_offset = column_offset.data();
    row_is_inside = inside(row_offset, reach.taps_down, reach.rows);
    column_is_inside = inside(column_offset, reach.taps_across, reach.columns);
    reach.row_is_inside = row_is_inside.get(), reach.column_is_inside = column_is_inside.get();
    for (Index down = 0; down < reach.taps_down; down++)
      for (Index across = 0; across < reach.taps_across; across++)
        distance.push_back(down * step_down + across * step_across);
    reach.distance = distance.data();
    reach.all_inside =
        !std::count(reach.row_is_inside, reach.row_is_inside + reach.rows, false) &&
        !std::count(reach.column_is_inside, reach.column_is_inside + reach.columns, false);
  }

 private:
  static std::unique_ptr<bool[]> inside(const std::vector<Index>& offsets, Index taps,
                                        Index pixels) {
    std::unique_ptr<bool[]> result(new bool[pixels]);
    for (Index pixel = 0; pixel < pixels; pixel++) {
      result[pixel] = true;
      for (Index tap = 0; tap < taps; tap++)
        result[pixel] &= offsets[tap * pixels + pixel] != kOutside;
    }
    return result;
  }
};

// Along one side, at [tap][pixel]: the offset of what the forward pass reads.
std::vector<Index> forward_offsets(Index taps, Index pixels, Index stride, Index pad, Index size,
                                   Index step) {
  std::vector<Index> offsets(taps * pixels);
  for (Index tap = 0; tap < taps; tap++)
    for (Index pixel = 0; pixel < pixels; pixel++) {
      const Index at = pixel * stride + tap - pad;
      offsets[tap * pixels + pixel] = 0 <= at && at < size ? at * step : kOutside;
    }
  return offsets;
}

// Likewise of what the input gradient reads: the output pixel that met this pixel at this tap.
std::vector<Index> gradient_offsets(Index taps, Index pixels, Index stride, Index pad, Index size,
                                    Index step) {
  std::vector<Index> offsets(taps * pixels);
  for (Index tap = 0; tap < taps; tap++)
    for (Index pixel = 0; pixel < pixels; pixel++) {
      const Index at = pixel + pad - tap;
      const bool met = at >= 0 && at % stride == 0 && at / stride < size;
      offsets[tap * pixels + pixel] = met ? at / stride * step : kOutside;
    }
  return offsets;
}

// Rows or columns, those of one phase of the stride together: they meet the same taps.
std::vector<Index> by_phase(Index size, Index stride, Index pad) {
  std::vector<Index> order(size);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [=](Index a, Index b) { return (a + pad) % stride < (b + pad) % stride; });
  return order;
}

// The rows of x, with zeros on the left and cut or with zeros on the right, `width` pixels long.
Floats pad_rows(const Convolution& s, const float* x, Index width, Pool& pool) {
  Floats padded = allocate(s.images * s.rows * width * s.channels);
  const Index count = std::min(s.columns, width - s.pad_left) * s.channels;
  for_each(pool, s.images, [&](Index image) {
    for (Index row = image * s.rows; row < (image + 1) * s.rows; row++) {
      float* to = padded.get() + row * width * s.channels;
      std::fill(to, to + width * s.channels, 0.0f);
      if (count <= 0) continue;
      const float* from = x + row * s.columns * s.channels;
      std::copy(from, from + count, to + s.pad_left * s.channels);
    }
  });
  return padded;
}

// x as the forward pass and the kernel gradient read it. Taps side by side lie side by side in
// memory where there is no padding between; where channels are few, padded rows are made to have
// them so.
Map input_map(const Convolution& s, const float* x, Pool& pool) {
  Map map;
  const Index reached = (s.out_columns - 1) * s.stride_across + s.kernel_columns;
  const bool inside = s.pad_left == 0 && reached <= s.columns;
  const bool joins = s.kernel_columns > 1 && (inside || s.channels < kFewChannels);
  Index width = s.columns, pad = s.pad_left;
  if (joins && !inside) {
    map.padded = pad_rows(s, x, reached, pool);
    x = map.padded.get(), width = reached, pad = 0;
  }
  map.reach.source = x;
  map.reach.image_stride = s.rows * width * s.channels;
  map.reach.images = s.images, map.reach.rows = s.out_rows, map.reach.columns = s.out_columns;
  map.reach.taps_down = s.kernel_rows, map.reach.taps_across = joins ? 1 : s.kernel_columns;
  map.reach.run = joins ? s.kernel_columns * s.channels : s.channels;
  map.row_offset = forward_offsets(s.kernel_rows, s.out_rows, s.stride_down, s.pad_top, s.rows,
                                   width * s.channels);
  map.column_offset = forward_offsets(map.reach.taps_across, s.out_columns, s.stride_across, pad,
                                      width, s.channels);
  map.finish(width * s.channels, s.channels);
  return map;
}

// Vectors across a tile: as few as possible are wasted, and wide tiles are better.
Index width_of(Index channels, const Tiles& tiles) {
  const Index vectors = ceil_div(channels, tiles.lanes);
  Index best = tiles.widest;
  for (Index width = tiles.widest; width > 0; width--)
    if (ceil_div(vectors, width) * width < ceil_div(vectors, best) * best) best = width;
  return best * tiles.lanes;
}

// Runs a correlation whose kernel is packed by pack(block, tap, panel).
template <typename Pack>
void run(Correlation& pass, const Tiles& tiles, Pool& pool, Pack pack) {
  const Reach& reach = pass.reach;
  const Index taps = reach.taps_down * reach.taps_across, panel = reach.run * pass.width;
  const Index blocks = ceil_div(pass.channels, pass.width);
  const Floats panels = allocate(blocks * taps * panel);
  const auto pack_piece = [&](Index i) { pack(i / taps, i % taps, panels.get() + i * panel); };
  if (blocks * taps * panel <= kSmallKernel)
    for (Index i = 0; i < blocks * taps; i++) pack_piece(i);
  else
    for_each(pool, blocks * taps, pack_piece);
  const Floats zeros = allocate(reach.run);
  std::fill(zeros.get(), zeros.get() + reach.run, 0.0f);
  pass.panels = panels.get();
  pass.zeros = zeros.get();

  const Index pixels = tiles.pixels[pass.width / tiles.lanes];
  const Index count = ceil_div(reach.images * reach.rows * reach.columns, pixels);
  // As many blocks together as their panels stay in a core's own cache while the pixels pass by,
  // which are read anew for the next ones.
  const Index held = std::max<Index>(kFloatsHeld / (taps * panel), 1);
  const Index together = ceil_div(blocks, ceil_div(blocks, held));
  const Index rounds = ceil_div(blocks, together);
  const Index wanted = kPiecesForThread * pool.threads();
  const Index size = std::clamp<Index>(count * rounds / wanted, 1, kTilesInPiece);
  const Index pieces = ceil_div(count, size);
  for_each(pool, pieces * rounds, [&](Index i) {
    const Index block = i / pieces * together, tile = i % pieces * size;
    tiles.correlate(pass, tile, std::min(tile + size, count), block,
                    std::min(block + together, blocks));
  });
}

}  // namespace

void forward(const Convolution& s, const float* x, const float* kernel, float* y,
             const Tiles& tiles, Pool& pool) {
  const Map map = input_map(s, x, pool);
  const std::vector<Index> rows = by_phase(s.out_rows, 1, 0),
                           columns = by_phase(s.out_columns, 1, 0);
  Correlation pass = {};
  pass.reach = map.reach;
  pass.row_order = rows.data(), pass.column_order = columns.data();
  pass.images_innermost = !map.reach.all_inside && s.out_rows * s.out_columns <= kSmallMap;
  pass.width = width_of(s.out_channels, tiles);
  pass.out = y, pass.channels = s.out_channels;
  const Index run_length = map.reach.run;
  run(pass, tiles, pool, [&](Index block, Index tap, float* panel) {
    tiles.pack(kernel + tap * run_length * s.out_channels, run_length, s.out_channels,
               block * pass.width, pass.width, panel);
  });
}

void input_gradient(const Convolution& s, const float* kernel, const float* y_gradient,
                    float* x_gradient, const Tiles& tiles, Pool& pool) {
  Map map;
  map.reach.source = y_gradient;
  map.reach.image_stride = s.out_rows * s.out_columns * s.out_channels;
  map.reach.images = s.images, map.reach.rows = s.rows, map.reach.columns = s.columns;
  map.reach.taps_down = s.kernel_rows, map.reach.taps_across = s.kernel_columns;
  map.reach.run = s.out_channels;
  map.row_offset = gradient_offsets(s.kernel_rows, s.rows, s.stride_down, s.pad_top, s.out_rows,
                                    s.out_columns * s.out_channels);
  map.column_offset = gradient_offsets(s.kernel_columns, s.columns, s.stride_across, s.pad_left,
                                       s.out_columns, s.out_channels);
  // Of several taps a stride apart no pixel meets all: then nothing is inside, nor are steps used.
  map.finish(-s.out_columns * s.out_channels, -s.out_channels);
  const std::vector<Index> rows = by_phase(s.rows, s.stride_down, s.pad_top);
  const std::vector<Index> columns = by_phase(s.columns, s.stride_across, s.pad_left);
  Correlation pass = {};
  pass.reach = map.reach;
  pass.row_order = rows.data(), pass.column_order = columns.data();
  pass.images_innermost = !map.reach.all_inside && s.rows * s.columns <= kSmallMap;
  pass.width = width_of(s.channels, tiles);
  pass.out = x_gradient, pass.channels = s.channels;
  run(pass, tiles, pool, [&](Index block, Index tap, float* panel) {
    tiles.pack_exchanged(kernel + tap * s.channels * s.out_channels, s.channels, s.out_channels,
                         block * pass.width, pass.width, panel);
  });
}

void kernel_gradient(const Convolution& s, const float* x, const float* y_gradient,
                     float* kernel_gradient, const Tiles& tiles, Pool& pool) {
  // Each group costs memory as large as the kernel, written and read again: few, but for all cores.
  constexpr Index kPiecesWanted = 12, kPixelsAtLeast = 512, kFloatsAtMost = 1 << 20;
  const Map map = input_map(s, x, pool);
  const Index taps = map.reach.taps_down * map.reach.taps_across;
  const Index size = taps * map.reach.run * s.out_channels;
  const Index pixels = s.images * s.out_rows * s.out_columns;
  KernelGradient pass = {};
  pass.reach = map.reach;
  pass.gradient = y_gradient, pass.channels = s.out_channels;
  pass.width = width_of(s.out_channels, tiles);
  const Index blocks = ceil_div(s.out_channels, pass.width);
  const Index most = std::max<Index>(std::min(pixels / kPixelsAtLeast, kFloatsAtMost / size), 1);
  // Blocks of one round share the packing of what is read; but there are to be pieces for all
  // cores.
  const Index held = kFloatsPacked / (kPixelsPacked * pass.width);
  const Index spread = ceil_div(kPiecesWanted, most * taps);
  const Index allowed = std::clamp<Index>(blocks / spread, 1, held);
  const Index together = ceil_div(blocks, ceil_div(blocks, allowed));
  const Index rounds = ceil_div(blocks, together);
  const Index wanted = std::min(ceil_div(kPiecesWanted, rounds), most);
  pass.pixels_per_group = ceil_div(pixels, wanted);
  const Index groups = ceil_div(pixels, pass.pixels_per_group);
  // Parting taps changes no sum, so it may follow the threads; but each part reads all pixels.
  const Index parts = std::min(ceil_div(kPiecesForThread * pool.threads(), rounds * groups), taps);
  const Floats sums = allocate(groups > 1 ? groups * size : 0);
  pass.sums = groups > 1 ? sums.get() : kernel_gradient;
  for_each(pool, rounds * groups * parts, [&](Index i) {
    const Index part = i % parts, group = i / parts % groups, block = i / parts / groups * together;
    tiles.kernel_gradient(pass, group, block, std::min(block + together, blocks),
                          taps * part / parts, taps * (part + 1) / parts);
  });
  if (groups == 1) return;
  constexpr Index kFloatsInPiece = 1 << 14;
  for_each(pool, ceil_div(size, kFloatsInPiece), [&](Index i) {
    tiles.add_groups(sums.get(), groups, size, i * kFloatsInPiece,
                     std::min((i + 1) * kFloatsInPiece, size), kernel_gradient);
  });
}

}  // namespace jaxnets
