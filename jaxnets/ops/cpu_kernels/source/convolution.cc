#include "convolution.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <numeric>
#include <vector>

namespace jaxnets {
namespace {

constexpr Index kTilesInPiece = 32;
constexpr Index kPiecesForThread = 4;    // so that a late thread does not delay the others
constexpr Index kSmallKernel = 1 << 15;  // values that are packed sooner than other threads wake
constexpr Index kValuesHeld = 1 << 16;   // of panels, half of a core's second cache or less
constexpr Index kSmallMap = 256;    // pixels of a map on which the images of a place go together
constexpr Index kFewChannels = 16;  // with fewer channels, taps side by side are read as one
constexpr Index kValuesInPiece = 1 << 14;

constexpr Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};
template <typename T>
using Array = std::unique_ptr<T[], Free>;

template <typename T>
Array<T> allocate(Index count) {
  const std::size_t bytes = static_cast<std::size_t>(ceil_div(count * sizeof(T), 64)) * 64;
  void* memory = std::aligned_alloc(64, std::max<std::size_t>(bytes, 64));
  if (memory == nullptr) throw std::bad_alloc();
  return Array<T>(static_cast<T*>(memory));
}

template <typename T>
Array<T> zeros(Index count) {
  Array<T> array = allocate<T>(count);
  std::fill(array.get(), array.get() + count, T{});
  return array;
}

// Runs of bfloat16 are read in pairs.
template <typename T>
constexpr Index kPair = sizeof(T) == 2 ? 2 : 1;

constexpr Index round_up(Index value, Index step) { return ceil_div(value, step) * step; }

template <typename T>
Index padded_channels(Index channels) {
  return round_up(channels, kPair<T>);
}

// Whether the taps side by side are one run because channels are few; padded rows are made for that.
template <typename T>
bool has_few_channels(const Convolution& s) {
  return s.groups == 1 && s.kernel_columns > 1 && padded_channels<T>(s.channels) < kFewChannels;
}

// How a filter is packed for the forward pass: [groups][blocks][runs][rows][width].
template <typename T>
struct Panels {
  Index wide, channels, width, blocks, runs, rows;

  Panels(const Convolution& s, const KernelsOf<T>& kernels);
  Index size() const { return blocks * runs * rows * width; }  // of a group
};

// A Reach and the tables that it points to.
template <typename T>
struct Map {
  Reach<T> reach = {};
  std::vector<Index> row_offset, column_offset, distance;
  std::unique_ptr<bool[]> row_is_inside, column_is_inside;
  Array<T> padded, zeros_;

  // Fills in what follows from the offsets; `step` lies between the offsets of neighbouring taps.
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
    zeros_ = zeros<T>(reach.run);
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

// Likewise of what the input gradient reads: the output pixel that this pixel contributed to at this
// tap.
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

// Rows or columns, those of one phase of the stride together: they read the same taps.
std::vector<Index> by_phase(Index size, Index stride, Index pad) {
  std::vector<Index> order(size);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [=](Index a, Index b) { return (a + pad) % stride < (b + pad) % stride; });
  return order;
}

// Images [images][rows][columns][channels], pixels `stride` apart, with zeros around: pixels have
// `wide` channels, rows are `width` pixels long, of which the first `left` are zeros.
template <typename T>
Array<T> pad_images(const T* x, Index images, Index rows, Index columns, Index channels, Index stride,
                    Index wide, Index width, Index left, Pool& pool) {
  Array<T> padded = allocate<T>(images * rows * width * wide);
  const Index count = std::clamp<Index>(columns, 0, std::max<Index>(width - left, 0));
  for_each(pool, images, [&](Index image) {
    for (Index row = image * rows; row < (image + 1) * rows; row++) {
      T* to = padded.get() + row * width * wide;
      std::fill(to, to + width * wide, T{});
      const T* from = x + row * columns * stride;
      to += left * wide;
      if (wide == stride)
        std::copy(from, from + count * channels, to);
      else
        for (Index i = 0; i < count; i++)
          std::copy(from + i * stride, from + i * stride + channels, to + i * wide);
    }
  });
  return padded;
}

// x as the forward pass and the kernel gradient read it; a run has a pixel's channels of one group, or
// all of a depthwise convolution.
// Taps side by side lie side by side in memory where there is no padding between; where channels are
// few, padded rows are made to have them so.
template <typename T>
Map<T> input_map(const Convolution& s, const T* x, const KernelsOf<T>& kernels, Pool& pool) {
  Map<T> map;
  const Index wide = s.groups > 1 ? s.channels : padded_channels<T>(s.channels);
  const Index reached = (s.out_columns - 1) * s.stride_across + s.kernel_columns;
  const Index stride = s.x_stride ? s.x_stride : s.channels;
  const bool inside = s.pad_left == 0 && reached <= s.columns;
  const bool may_join = s.groups == 1 && s.kernel_columns > 1 && kernels.rows_step <= kPair<T>;
  const bool joins = has_few_channels<T>(s) || (inside && may_join);
  Index width = s.columns, pad = s.pad_left, step = stride;
  if ((joins && !inside) || wide != s.channels || (joins && stride != wide)) {
    if (joins) width = reached, pad = 0;
    map.padded = pad_images(x, s.images, s.rows, s.columns, s.channels, stride, wide, width,
                            joins ? s.pad_left : 0, pool);
    x = map.padded.get(), step = wide;
  }
  map.reach.source = x;
  map.reach.image_stride = s.rows * width * step;
  map.reach.images = s.images, map.reach.rows = s.out_rows, map.reach.columns = s.out_columns;
  map.reach.taps_down = s.kernel_rows, map.reach.taps_across = joins ? 1 : s.kernel_columns;
  map.reach.run = joins ? s.kernel_columns * wide : s.is_depthwise() ? wide : wide / s.groups;
  map.row_offset = forward_offsets(s.kernel_rows, s.out_rows, s.stride_down, s.pad_top, s.rows,
                                   width * step);
  map.column_offset =
      forward_offsets(map.reach.taps_across, s.out_columns, s.stride_across, pad, width, step);
  map.finish(width * step, step);
  return map;
}

// y's gradient as the input gradient reads it.
template <typename T>
Map<T> gradient_map(const Convolution& s, const T* y_gradient, Pool& pool) {
  Map<T> map;
  const Index wide = s.groups > 1 ? s.out_channels : padded_channels<T>(s.out_channels);
  if (wide != s.out_channels) {
    map.padded = pad_images(y_gradient, s.images, s.out_rows, s.out_columns, s.out_channels, s.out_channels, wide,
                            s.out_columns, 0, pool);
    y_gradient = map.padded.get();
  }
  map.reach.source = y_gradient;
  map.reach.image_stride = s.out_rows * s.out_columns * wide;
  map.reach.images = s.images, map.reach.rows = s.rows, map.reach.columns = s.columns;
  map.reach.taps_down = s.kernel_rows, map.reach.taps_across = s.kernel_columns;
  map.reach.run = s.is_depthwise() ? wide : wide / s.groups;
  map.row_offset = gradient_offsets(s.kernel_rows, s.rows, s.stride_down, s.pad_top, s.out_rows,
                                    s.out_columns * wide);
  map.column_offset = gradient_offsets(s.kernel_columns, s.columns, s.stride_across, s.pad_left,
                                       s.out_columns, wide);
  // Of several taps a stride apart no pixel reads all: then nothing is inside, nor are steps used.
  map.finish(-s.out_columns * wide, -wide);
  return map;
}

// Channels of a panel: as few lanes as possible are wasted, and wide tiles are better.
template <typename T>
Index width_of(Index channels, const KernelsOf<T>& kernels) {
  const Index vectors = ceil_div(channels, kernels.lanes);
  Index best = kernels.widest;
  for (Index width = kernels.widest; width > 0; width--)
    if (ceil_div(vectors, width) * width < ceil_div(vectors, best) * best) best = width;
  return best * kernels.lanes;
}

template <typename T>
Panels<T>::Panels(const Convolution& s, const KernelsOf<T>& kernels)
    : wide(padded_channels<T>(s.channels / s.groups)),
      channels(s.out_channels / s.groups),
      width(width_of(channels, kernels)),
      blocks(ceil_div(channels, width)),
      runs(has_few_channels<T>(s) ? s.kernel_rows : s.kernel_rows * s.kernel_columns),
      rows(round_up(has_few_channels<T>(s) ? s.kernel_columns * wide : wide, kernels.rows_step)) {}

// Scratch memory for as many pieces of work as run at the same time.
template <typename T>
class Scratch {
 public:
  Scratch(Index size, Index threads) {
    for (Index i = 0; size > 0 && i < threads; i++) free_.push_back(allocate<T>(size));
  }
  Array<T> take() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (free_.empty()) return nullptr;
    Array<T> taken = std::move(free_.back());
    free_.pop_back();
    return taken;
  }
  void give_back(Array<T> taken) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (taken != nullptr) free_.push_back(std::move(taken));
  }

 private:
  std::mutex mutex_;
  std::vector<Array<T>> free_;
};

// A filter's panels: one piece for each block of channels and each tap.
template <typename Pack>
void for_each_panel(Index blocks, Index taps, Index piece, Pool& pool, Pack pack) {
  const auto one = [&](Index i) { pack(i / taps, i % taps); };
  if (blocks * taps * piece <= kSmallKernel)
    for (Index i = 0; i < blocks * taps; i++) one(i);
  else
    for_each(pool, blocks * taps, one);
}

// Runs a correlation whose filter is packed.
template <typename T>
void run(const Correlation<T>& pass, const KernelsOf<T>& kernels, Pool& pool) {
  const Reach<T>& reach = pass.reach;
  const Index taps = reach.taps_down * reach.taps_across, panel = pass.panel_rows * pass.width;
  const Index blocks = ceil_div(pass.channels, pass.width);
  const Index pixels = kernels.pixels[pass.width / kernels.lanes];
  const Index count = ceil_div(reach.images * reach.rows * reach.columns, pixels);
  // As many blocks together as their panels stay in a core's own cache while the pixels pass by,
  // which are read anew for the next ones.
  // With a prologue all blocks go together, so that pixels are normalised once.
  const bool normalizes = pass.prologue.center != nullptr;
  const Index held = normalizes ? blocks : std::max<Index>(kValuesHeld / (taps * panel), 1);
  const Index together = ceil_div(blocks, ceil_div(blocks, held));
  const Index rounds = ceil_div(blocks, together);
  const Index wanted = kPiecesForThread * pool.threads();
  const Index size = std::clamp<Index>(count * rounds / wanted, 1, kTilesInPiece);
  const Index pieces = ceil_div(count, size);
  const Index gathered = kernels.gathers || normalizes ? pixels * taps * pass.panel_rows : 0;
  Scratch<T> scratch(normalizes ? std::max(gathered, kValuesNormalized) : gathered, pool.threads());
  for_each(pool, pieces * rounds, [&](Index i) {
    const Index block = i / pieces * together, tile = i % pieces * size;
    Array<T> own = scratch.take();
    kernels.correlate(pass, tile, std::min(tile + size, count), block,
                      std::min(block + together, blocks), own.get());
    scratch.give_back(std::move(own));
  });
}

template <typename T>
Correlation<T> correlation(const Map<T>& map, const std::vector<Index>& rows,
                           const std::vector<Index>& columns) {
  Correlation<T> pass = {};
  pass.reach = map.reach, pass.zeros = map.zeros_.get();
  pass.row_order = rows.data(), pass.column_order = columns.data();
  pass.images_innermost = !map.reach.all_inside && rows.size() * columns.size() <= kSmallMap;
  return pass;
}

// All columns; those that read the same taps may be `step` apart.
template <typename T>
std::vector<Strip> strips_of(const Reach<T>& reach, Index step) {
  std::vector<Strip> strips;
  // Whether b reads the same taps as a, and how far from a's.
  const auto reads_same = [&](Index a, Index b, Index* shift) {
    for (Index tap = 0; tap < reach.taps_across; tap++) {
      const Index* offset = reach.column_offset + tap * reach.columns;
      if ((offset[a] == kOutside) != (offset[b] == kOutside)) return false;
      if (offset[a] != kOutside) *shift = offset[b] - offset[a];
    }
    return true;
  };
  for (Index phase = 0; phase < std::min(step, reach.columns); phase++)
    for (Index column = phase; column < reach.columns; column += step)
      if (column > phase && reads_same(column - step, column, &strips.back().shift))
        strips.back().count++;
      else
        strips.push_back({column, 1, step, 0});
  return strips;
}

template <typename T>
void run_depthwise(const Map<T>& map, const std::vector<Strip>& strips, const float* kernel,
                   const Epilogue<T>& epilogue, T* out, const KernelsOf<T>& kernels, Pool& pool) {
  Depthwise<T> pass = {};
  pass.reach = map.reach, pass.kernel = kernel, pass.epilogue = epilogue, pass.out = out;
  pass.strips = strips.data(), pass.strip_count = strips.size();
  const Index size = map.reach.columns * map.reach.run * map.reach.taps_down;
  const Index together = std::max<Index>(kValuesInPiece / size, 1);
  const Index rows = map.reach.images * map.reach.rows;
  for_each(pool, ceil_div(rows, together), [&](Index i) {
    for (Index row = i * together; row < std::min((i + 1) * together, rows); row++)
      kernels.depthwise(pass, row / map.reach.rows, row % map.reach.rows);
  });
}

// total[i] = the sum over groups of sums[group][i].
template <typename T>
void add_all(const float* sums, Index groups, Index size, float* total, const KernelsOf<T>& kernels,
             Pool& pool) {
  for_each(pool, ceil_div(size, kValuesInPiece), [&](Index i) {
    kernels.add_groups(sums, groups, size, i * kValuesInPiece,
                       std::min((i + 1) * kValuesInPiece, size), total);
  });
}

template <typename T>
void depthwise_kernel_gradient(const Convolution& s, const T* x, const T* y_gradient,
                               float* kernel_gradient, const KernelsOf<T>& kernels, Pool& pool) {
  constexpr Index kGroups = 16;
  const Map<T> map = input_map(s, x, kernels, pool);
  Depthwise<T> pass = {};
  const std::vector<Strip> strips = strips_of(map.reach, 1);
  pass.reach = map.reach, pass.gradient = y_gradient;
  pass.strips = strips.data(), pass.strip_count = strips.size();
  const Index rows = s.images * s.out_rows;
  pass.rows_per_group = ceil_div(rows, kGroups);
  const Index groups = ceil_div(rows, pass.rows_per_group);
  const Index size = s.kernel_rows * s.kernel_columns * s.channels;
  const Array<float> sums = allocate<float>(groups * size);
  pass.sums = sums.get();
  for_each(pool, groups, [&](Index group) { kernels.depthwise_kernel_gradient(pass, group); });
  add_all(sums.get(), groups, size, kernel_gradient, kernels, pool);
}

}  // namespace

KernelsOf<Bfloat16> with_tiles(KernelsOf<Bfloat16> kernels, const TileKernels& tiles) {
  // As amx.cc has them: 32 pixels, one or two tiles of 16 channels, runs of 32.
  kernels.lanes = 16, kernels.widest = 2, kernels.rows_step = 32, kernels.gathers = true;
  for (int width = 1; width <= 2; width++) kernels.pixels[width] = 32;
  kernels.correlate = tiles.correlate, kernels.kernel_gradient = tiles.kernel_gradient;
  return kernels;
}

template <typename T>
Index packed_size(const Convolution& s, const KernelsOf<T>& kernels) {
  return s.groups * Panels<T>(s, kernels).size();
}

template <typename T>
void pack_kernel(const Convolution& s, const float* kernel, T* packed, const KernelsOf<T>& kernels,
                 Pool& pool) {
  const Panels<T> panels(s, kernels);
  const Index across = s.kernel_columns, taps = s.kernel_rows * across;
  const Index rows = s.channels / s.groups;
  const bool joins = has_few_channels<T>(s);
  for_each_panel(s.groups * panels.blocks, taps, panels.rows * panels.width, pool,
                 [&](Index i, Index tap) {
                   const Index first = i % panels.blocks * panels.width;
                   const Index group = i / panels.blocks;
                   Index run = tap, row = 0, padded = panels.rows;
                   if (joins) {
                     run = tap / across, row = tap % across * panels.wide;
                     padded = tap % across + 1 < across ? panels.wide : panels.rows - row;
                   }
                   T* to = packed + ((i * panels.runs + run) * panels.rows + row) * panels.width;
                   kernels.pack(kernel + tap * rows * s.out_channels, rows, padded, s.out_channels,
                                group * panels.channels + first,
                                std::min(panels.width, panels.channels - first), panels.width, to);
                 });
}

template <typename T>
void forward(const Convolution& s, const T* x, const float* kernel, const T* panels,
             const Prologue& prologue, const Epilogue<T>& epilogue, T* y,
             const KernelsOf<T>& kernels, Pool& pool) {
  const Map<T> map = input_map(s, x, kernels, pool);
  if (s.is_depthwise())
    return run_depthwise(map, strips_of(map.reach, 1), kernel, epilogue, y, kernels, pool);
  Array<T> packed;
  if (panels == nullptr) {
    packed = allocate<T>(packed_size(s, kernels));
    pack_kernel(s, kernel, packed.get(), kernels, pool);
    panels = packed.get();
  }
  const std::vector<Index> rows = by_phase(s.out_rows, 1, 0),
                           columns = by_phase(s.out_columns, 1, 0);
  Correlation<T> pass = correlation(map, rows, columns);
  const Panels<T> layout(s, kernels);
  pass.channels = layout.channels, pass.width = layout.width;
  pass.out_stride = s.y_stride ? s.y_stride : s.out_channels, pass.prologue = prologue;
  pass.panel_rows = round_up(map.reach.run, kernels.rows_step);
  for (Index group = 0; group < s.groups; group++) {
    const Index channel = group * pass.channels;
    pass.reach.source = map.reach.source + group * map.reach.run;
    pass.panels = panels + group * layout.size(), pass.out = y + channel;
    pass.epilogue = epilogue;
    if (epilogue.bias != nullptr) pass.epilogue.bias += channel;
    if (epilogue.residual != nullptr) pass.epilogue.residual += channel;
    run(pass, kernels, pool);
  }
}

template <typename T>
void input_gradient(const Convolution& s, const float* kernel, const T* y_gradient, T* x_gradient,
                    const KernelsOf<T>& kernels, Pool& pool) {
  const Map<T> map = gradient_map(s, y_gradient, pool);
  if (s.is_depthwise())
    return run_depthwise(map, strips_of(map.reach, s.stride_across), kernel, {}, x_gradient, kernels,
                         pool);
  const std::vector<Index> rows = by_phase(s.rows, s.stride_down, s.pad_top);
  const std::vector<Index> columns = by_phase(s.columns, s.stride_across, s.pad_left);
  Correlation<T> pass = correlation(map, rows, columns);
  const Index taps = s.kernel_rows * s.kernel_columns, channels = s.channels / s.groups;
  const Index run_length = s.out_channels / s.groups;
  pass.channels = channels, pass.out_stride = s.channels, pass.width = width_of(channels, kernels);
  pass.panel_rows = round_up(map.reach.run, kernels.rows_step);
  const Index blocks = ceil_div(channels, pass.width), size = pass.panel_rows * pass.width;
  const Array<T> panels = allocate<T>(blocks * taps * size);
  pass.panels = panels.get();
  for (Index group = 0; group < s.groups; group++) {
    for_each_panel(blocks, taps, size, pool, [&](Index block, Index tap) {
      const Index first = block * pass.width;
      kernels.pack_exchanged(kernel + tap * channels * s.out_channels + group * run_length,
                             run_length, pass.panel_rows, s.out_channels, first,
                             std::min(pass.width, channels - first), pass.width,
                             panels.get() + (block * taps + tap) * size);
    });
    pass.reach.source = map.reach.source + group * run_length;
    pass.out = x_gradient + group * channels;
    run(pass, kernels, pool);
  }
}

template <typename T>
void kernel_gradient(const Convolution& s, const T* x, const T* y_gradient, float* kernel_gradient,
                     const KernelsOf<T>& kernels, Pool& pool) {
  if (s.is_depthwise())
    return depthwise_kernel_gradient(s, x, y_gradient, kernel_gradient, kernels, pool);
  // Each group of pixels costs memory as large as the filter, written and read again: there are few,
  // but enough for all cores.
  constexpr Index kPiecesWanted = 12, kPixelsAtLeast = 512, kFloatsAtMost = 1 << 20;
  const Map<T> map = input_map(s, x, kernels, pool);
  const Index taps = map.reach.taps_down * map.reach.taps_across, run_length = map.reach.run;
  // Of odd channels in bfloat16 the run has a zero more for every tap.
  const Index channels = s.channels / s.groups, wide = s.groups > 1 ? channels
                                                                    : padded_channels<T>(channels);
  const Index size = taps * run_length * s.out_channels;
  const Index pixels = s.images * s.out_rows * s.out_columns;
  KernelGradient<T> pass = {};
  pass.reach = map.reach, pass.zeros = map.zeros_.get();
  pass.channels = s.out_channels / s.groups, pass.gradient_stride = s.out_channels;
  pass.width = width_of(pass.channels, kernels);
  const Index blocks = ceil_div(pass.channels, pass.width);
  const Index most = std::max<Index>(std::min(pixels / kPixelsAtLeast, kFloatsAtMost / size), 1);
  // Blocks of one round share the packing of what is read; but there are to be pieces for all
  // cores.
  const Index held = kValuesPacked / (kPixelsPacked * pass.width);
  const Index spread = ceil_div(kPiecesWanted, most * taps);
  const Index allowed = std::clamp<Index>(blocks / spread, 1, held);
  const Index together = ceil_div(blocks, ceil_div(blocks, allowed));
  const Index rounds = ceil_div(blocks, together);
  const Index wanted = std::min(ceil_div(kPiecesWanted, rounds), most);
  pass.pixels_per_group = ceil_div(pixels, wanted);
  const Index groups = ceil_div(pixels, pass.pixels_per_group);
  // Parting taps changes no sum, so it may follow the threads; but each part reads all pixels.
  const Index parts = std::min(ceil_div(kPiecesForThread * pool.threads(), rounds * groups), taps);
  const bool direct = groups == 1 && wide == channels;
  const Array<float> sums = allocate<float>(direct ? 0 : groups * size);
  float* const total = direct ? kernel_gradient : sums.get();
  pass.sums_stride = s.out_channels, pass.group_stride = size;
  for (Index g = 0; g < s.groups; g++) {
    pass.reach.source = map.reach.source + g * channels;
    pass.gradient = y_gradient + g * pass.channels;
    pass.sums = total + g * pass.channels;
    for_each(pool, rounds * groups * parts, [&](Index i) {
      const Index part = i % parts, group = i / parts % groups;
      const Index block = i / parts / groups * together;
      kernels.kernel_gradient(pass, group, block, std::min(block + together, blocks),
                              taps * part / parts, taps * (part + 1) / parts);
    });
  }
  if (direct) return;
  if (wide == channels) return add_all(sums.get(), groups, size, kernel_gradient, kernels, pool);
  if (groups > 1) add_all(sums.get(), groups, size, sums.get(), kernels, pool);
  const Index row = channels * s.out_channels, wide_row = wide * s.out_channels;
  for (Index tap = 0; tap < s.kernel_rows * s.kernel_columns; tap++)
    std::copy(sums.get() + tap * wide_row, sums.get() + tap * wide_row + row,
              kernel_gradient + tap * row);
}

#define JAXNETS_INSTANTIATE(T)                                                                     \
  template Index packed_size(const Convolution&, const KernelsOf<T>&);                             \
  template void pack_kernel(const Convolution&, const float*, T*, const KernelsOf<T>&, Pool&);     \
  template void forward(const Convolution&, const T*, const float*, const T*, const Prologue&,     \
                        const Epilogue<T>&, T*, const KernelsOf<T>&, Pool&);                       \
  template void input_gradient(const Convolution&, const float*, const T*, T*,                     \
                               const KernelsOf<T>&, Pool&);                                        \
  template void kernel_gradient(const Convolution&, const T*, const T*, float*,                    \
                                const KernelsOf<T>&, Pool&);

JAXNETS_INSTANTIATE(float)
JAXNETS_INSTANTIATE(Bfloat16)

}  // namespace jaxnets
