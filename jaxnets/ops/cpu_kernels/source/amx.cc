// Convolutions in bfloat16 by the tile instructions of x86 (AMX), or by a plain stand-in with the same
// arithmetic, so that everything but the instructions themselves is tested on any CPU. Compiled with
// JAXNETS_KERNELS (the name of the table), JAXNETS_LANES and JAXNETS_REGISTERS defined, and for the
// stand-in JAXNETS_EMULATES.
#if defined(__AVX2__)
#include <immintrin.h>
#endif
#include <string.h>

#include "plan.h"

namespace jaxnets {
namespace {

#include "vectors.h"

#include "correlate.h"
#include "kernel_gradient.h"
#include "pack.h"

// A tile has 16 rows of 64 bytes: 16 floats, or 32 bfloat16. Tiles 0 to 3 are sums, of 32 rows by 32
// columns; 4 and 5 hold the left factor, 6 and 7 the right one, as pairs of rows.
constexpr Index kSide = 16, kStepRun = 32, kTileRows = 2 * kSide;

#ifdef JAXNETS_EMULATES
struct alignas(64) TileMemory {
  unsigned char bytes[8][kSide][64];
};
thread_local TileMemory tiles;

struct Tiles {};  // nothing to configure

template <int kTile>
void load_tile(const void* from, Index stride) {
  for (Index row = 0; row < kSide; row++)
    memcpy(tiles.bytes[kTile][row], static_cast<const char*>(from) + row * stride, 64);
}

template <int kTile>
void store_tile(void* to, Index stride) {
  for (Index row = 0; row < kSide; row++)
    memcpy(static_cast<char*>(to) + row * stride, tiles.bytes[kTile][row], 64);
}

template <int kTile>
void zero_tile() {
  memset(tiles.bytes[kTile], 0, sizeof tiles.bytes[kTile]);
}

template <int kSum, int kLeft, int kRight>
void multiply_tiles() {
  for (Index row = 0; row < kSide; row++) {
    float sums[kSide];
    Bfloat16 left[kStepRun], right[kStepRun];
    memcpy(sums, tiles.bytes[kSum][row], sizeof sums);
    memcpy(left, tiles.bytes[kLeft][row], sizeof left);
    for (Index k = 0; k < kSide; k++) {
      memcpy(right, tiles.bytes[kRight][k], sizeof right);
      for (Index column = 0; column < kSide; column++) {
        sums[column] += to_float(left[2 * k]) * to_float(right[2 * column]);
        sums[column] += to_float(left[2 * k + 1]) * to_float(right[2 * column + 1]);
      }
    }
    memcpy(tiles.bytes[kSum][row], sums, sizeof sums);
  }
}
#else
// Configures the tiles of this thread, which other code on it does not expect to be in use.
struct Tiles {
  Tiles() {
    struct alignas(64) {
      unsigned char palette = 1, start_row = 0, reserved[14] = {};
      uint16_t bytes_in_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      unsigned char rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } configuration;
    _tile_loadconfig(&configuration);
  }
  ~Tiles() { _tile_release(); }
};

template <int kTile>
void load_tile(const void* from, Index stride);
template <int kTile>
void store_tile(void* to, Index stride);
template <int kTile>
void zero_tile();
template <int kSum, int kLeft, int kRight>
void multiply_tiles();

// The number of a tile is part of an instruction, and these macros want it as a literal.
#define JAXNETS_TILE(n)                                                                        \
  template <>                                                                                  \
  inline void load_tile<n>(const void* from, Index stride) {                                   \
    _tile_loadd(n, from, stride);                                                              \
  }                                                                                            \
  template <>                                                                                  \
  inline void store_tile<n>(void* to, Index stride) {                                          \
    _tile_stored(n, to, stride);                                                               \
  }                                                                                            \
  template <>                                                                                  \
  inline void zero_tile<n>() {                                                                 \
    _tile_zero(n);                                                                             \
  }
JAXNETS_TILE(0)
JAXNETS_TILE(1)
JAXNETS_TILE(2)
JAXNETS_TILE(3)
JAXNETS_TILE(4)
JAXNETS_TILE(5)
JAXNETS_TILE(6)
JAXNETS_TILE(7)

#define JAXNETS_MULTIPLY(sum, left, right)          \
  template <>                                       \
  inline void multiply_tiles<sum, left, right>() {  \
    _tile_dpbf16ps(sum, left, right);               \
  }
JAXNETS_MULTIPLY(0, 4, 6)
JAXNETS_MULTIPLY(1, 4, 7)
JAXNETS_MULTIPLY(2, 5, 6)
JAXNETS_MULTIPLY(3, 5, 7)
#endif

// Sums of products: 32 rows of the left factor by `kColumns` tiles of the right one.
template <int kColumns>
struct Sums {
  static void zero() {
    zero_tile<0>(), zero_tile<2>();
    if constexpr (kColumns == 2) zero_tile<1>(), zero_tile<3>();
  }

  // Strides are in bytes; the second half of the left factor begins at `left + 16 * left_stride` or
  // elsewhere.
  static void add(const void* left, const void* lower_left, Index left_stride, const void* right,
                  Index right_stride) {
    load_tile<4>(left, left_stride);
    load_tile<6>(right, right_stride);
    multiply_tiles<0, 4, 6>();
    load_tile<5>(lower_left, left_stride);
    multiply_tiles<2, 5, 6>();
    if constexpr (kColumns == 2) {
      load_tile<7>(static_cast<const char*>(right) + 64, right_stride);
      multiply_tiles<1, 4, 7>();
      multiply_tiles<3, 5, 7>();
    }
  }

  static void store(float (&sums)[kTileRows][kColumns * kSide]) {
    constexpr Index kStride = sizeof sums[0];
    store_tile<0>(sums[0], kStride);
    store_tile<2>(sums[kSide], kStride);
    if constexpr (kColumns == 2) {
      store_tile<1>(sums[0] + kSide, kStride);
      store_tile<3>(sums[kSide] + kSide, kStride);
    }
  }
};

// The distance of each of 16 pixels' values from the ones before, or 0 if it differs.
inline Index stride_of(const Place<Bfloat16, kTileRows>& place, Index first) {
  const Index stride = place.start[first + 1] - place.start[first];
  for (Index m = first + 2; m < first + kSide; m++)
    if (place.start[m] - place.start[m - 1] != stride) return 0;
  return stride;
}

// The values that the taps of a tile read, [taps][32][panel_rows], zeros beyond the run.
inline void gather(const Correlation<Bfloat16>& pass, const Segment<Bfloat16, kTileRows>* segments,
                   Index count, Bfloat16* values) {
  const Index run = pass.reach.run, rows = pass.panel_rows;
  for (Index t = 0; t < count; t++)
    for (Index m = 0; m < kTileRows; m++, values += rows) {
      memcpy(values, segments[t].from[m], run * sizeof *values);
      memset(values + run, 0, (rows - run) * sizeof *values);
    }
}

// One tile and one panel: `left(t)` is where tap t of the first pixel is, other pixels lie `stride`
// apart.
template <int kColumns, typename Left>
void multiply_tile(const Correlation<Bfloat16>& pass, const Place<Bfloat16, kTileRows>& place,
                   Index count, Index block, Index stride, Index half, Left left) {
  constexpr Index kWidth = kColumns * kSide;
  const Index taps = pass.reach.taps_down * pass.reach.taps_across, rows = pass.panel_rows;
  const Bfloat16* panels = pass.panels + block * taps * rows * kWidth;
  Sums<kColumns>::zero();
  for (Index t = 0; t < count; t++) {
    Index tap;
    const Bfloat16* from = left(t, &tap);
    const Bfloat16* panel = panels + tap * rows * kWidth;
    for (Index c = 0; c < rows; c += kStepRun)
      Sums<kColumns>::add(from + c, from + half + c, stride * sizeof *from, panel + c * kWidth,
                          2 * kWidth * sizeof *panel);
  }
  alignas(64) float sums[kTileRows][kWidth];
  Sums<kColumns>::store(sums);
  const Index channel = block * kWidth, left_over = smaller(kWidth, pass.channels - channel);
  for (Index m = 0; m < place.count; m++)
    for (Index c = 0; c < left_over; c += kLanes) {
      const Index channels = smaller(kLanes, left_over - c);
      Vector row[1] = {load(sums[m] + c)}, bias[1];
      load_bias(pass.epilogue, bias, channel + c, channels);
      finish(pass.epilogue, bias, row, place.pixel[m] * pass.out_stride + channel + c, pass.out,
             channels);
    }
}

template <int kColumns>
void correlate_tiles(const Correlation<Bfloat16>& pass, Index first_tile, Index last_tile,
                     Index first_block, Index last_block, Bfloat16* scratch) {
  const Reach<Bfloat16>& reach = pass.reach;
  const Index taps = reach.taps_down * reach.taps_across, rows = pass.panel_rows;
  [[maybe_unused]] const Tiles tiles_in_use;
  Place<Bfloat16, kTileRows> place;
  Segment<Bfloat16, kTileRows> segments[kSegments];
  for (Index tile = first_tile; tile < last_tile; tile++) {
    find(pass, tile, place);
    if (pass.prologue.center != nullptr) {
      for (Index m = 0; m < kTileRows; m++) {
        Bfloat16* const to = scratch + m * rows;
        normalize_run(pass.prologue, place.start[m], reach.run, to);
        memset(to + reach.run, 0, (rows - reach.run) * sizeof *to);
      }
      for (Index block = first_block; block < last_block; block++)
        multiply_tile<kColumns>(pass, place, 1, block, rows, kSide * rows, [&](Index, Index* tap) {
          *tap = 0;
          return scratch;
        });
      continue;
    }
    const Index stride = place.is_inside && rows == reach.run ? stride_of(place, 0) : 0;
    if (stride != 0 && stride_of(place, kSide) == stride) {
      const Index half = place.start[kSide] - place.start[0];
      for (Index block = first_block; block < last_block; block++)
        multiply_tile<kColumns>(pass, place, taps, block, stride, half, [&](Index t, Index* tap) {
          *tap = t;
          return place.start[0] + reach.distance[t];
        });
      continue;
    }
    if (place.is_inside)  // shifts from `start` are relative to it, segments to the images
      for (Index m = 0; m < kTileRows; m++) place.start[m] = place.image[m];
    const Index count = look_up(pass, place, 0, reach.taps_down, segments);
    gather(pass, segments, count, scratch);
    for (Index block = first_block; block < last_block; block++)
      multiply_tile<kColumns>(pass, place, count, block, rows, kSide * rows,
                              [&](Index t, Index* tap) {
                                *tap = segments[t].tap;
                                return scratch + t * kTileRows * rows;
                              });
  }
}

void correlate(const Correlation<Bfloat16>& pass, Index first_tile, Index last_tile,
               Index first_block, Index last_block, Bfloat16* scratch) {
  if (pass.width == kSide)
    correlate_tiles<1>(pass, first_tile, last_tile, first_block, last_block, scratch);
  else
    correlate_tiles<2>(pass, first_tile, last_tile, first_block, last_block, scratch);
}

constexpr Index kPairs = kPixelsPacked / 2;

// The pairs of pixels that a tap reads, transposed: [run][kPairs][2], zeros where a tap lies in the
// padding and up to a multiple of 16 pairs, whose number is returned.
template <int kVectors>
Index take_sources(const KernelGradient<Bfloat16>& pass, Chunk<Bfloat16, kVectors>& chunk, Index tap,
                   Index begin, Index run, float* transposed) {
  const typename Chunk<Bfloat16, kVectors>::Tap source(chunk, pass.reach, tap);
  const Index pairs = ((chunk.count + 1) / 2 + kSide - 1) / kSide * kSide;
  const auto from = [&](Index q) {
    const Bfloat16* values = q < chunk.count ? source.at(q) : nullptr;
    return (values == nullptr ? pass.zeros : values) + begin;
  };
  for (Index pair = 0; pair < pairs; pair++)
    interleave(from(2 * pair), from(2 * pair + 1), run, chunk.packed + pair * kRowSize<Bfloat16>);
  transpose_all(reinterpret_cast<const float*>(chunk.packed), run, kRowSize<Bfloat16> / 2, pairs, kPairs,
                transposed);
  return pairs;
}

// Stores a row of sums, or adds it to what is there.
inline void add_row(const float* sums, Index count, bool adds, float* to) {
  for (Index c = 0; c < count; c += kLanes) {
    const Index left = count - c;
    Vector row[1] = {load(sums + c)}, before[1] = {};
    if (adds) load_row(to + c, before, left);
    row[0] += before[0];
    store_row(to + c, row, left);
  }
}

template <int kColumns>
void kernel_gradient_tiles(const KernelGradient<Bfloat16>& pass, Index group, Index first_block,
                           Index last_block, Index first_tap, Index last_tap) {
  constexpr Index kWidth = kColumns * kSide;
  using Pixels = Chunk<Bfloat16, kWidth / kLanes>;
  const Reach<Bfloat16>& reach = pass.reach;
  const Index run = reach.run, begin = group * pass.pixels_per_group;
  const Index end =
      smaller(begin + pass.pixels_per_group, reach.images * reach.rows * reach.columns);
  const Index blocks = last_block - first_block, channel = first_block * kWidth;
  Target target = {pass.sums + group * pass.group_stride + channel, pass.channels - channel,
                   pass.sums_stride, false};

  [[maybe_unused]] const Tiles tiles_in_use;
  Pixels chunk;
  alignas(64) float transposed[kRunPacked * kPairs] = {};  // bits, never computed with
  for (Index pixel = begin; pixel < end; pixel += kPixelsPacked) {
    target.adds = pixel > begin;
    chunk.take(pass, pixel, smaller(pixel + kPixelsPacked, end), first_block, blocks);
    const Index packed = (chunk.count + 1) / 2 * 2;
    for (Index block = 0; block < blocks; block++)
      memset(chunk.gradient + block * chunk.kBlockSize + packed * kWidth, 0,
             (kPixelsPacked - packed) * kWidth * sizeof(Bfloat16));
    for (Index tap = first_tap; tap < last_tap; tap++)
      for (Index first = 0; first < run; first += kRunPacked) {
        const Index here = smaller(kRunPacked, run - first);
        const Index pairs = take_sources(pass, chunk, tap, first, here, transposed);
        for (Index c = 0; c < here; c += kTileRows)
          for (Index block = 0; block < blocks; block++) {
            Sums<kColumns>::zero();
            for (Index k = 0; k < pairs; k += kSide) {
              const float* left = transposed + c * kPairs + k;
              Sums<kColumns>::add(left, left + kSide * kPairs, kPairs * sizeof(float),
                                  chunk.gradient + block * chunk.kBlockSize + 2 * k * kWidth,
                                  2 * kWidth * sizeof(Bfloat16));
            }
            alignas(64) float sums[kTileRows][kWidth];
            Sums<kColumns>::store(sums);
            const Target to = target.at(tap * run + first + c, block * kWidth);
            for (Index m = 0; m < smaller(kTileRows, here - c); m++)
              add_row(sums[m], smaller(kWidth, to.channels), to.adds, to.sums + m * to.stride);
          }
      }
  }
}

void kernel_gradient(const KernelGradient<Bfloat16>& pass, Index group, Index first_block,
                     Index last_block, Index first_tap, Index last_tap) {
  if (pass.width == kSide)
    kernel_gradient_tiles<1>(pass, group, first_block, last_block, first_tap, last_tap);
  else
    kernel_gradient_tiles<2>(pass, group, first_block, last_block, first_tap, last_tap);
}

}  // namespace

const TileKernels JAXNETS_KERNELS = {correlate, kernel_gradient};

}  // namespace jaxnets
