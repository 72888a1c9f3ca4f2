// What the planning code and the tiles of every instruction set agree on.
//
// Tiles are compiled once for each instruction set. An inline function that two of those files
// instantiate is merged by the linker, and the copy that stays may hold instructions that the CPU
// lacks: so this header has plain data and function pointers alone, and tiles include nothing else
// but C's own types.
#pragma once

#include <stdint.h>

namespace jaxnets {

using Index = int64_t;  // every offset and count: no tensor is too large for it

constexpr Index kOutside = -1;            // for an offset: there is nothing to read
constexpr Index kTapsAcrossAtMost = 320;  // in a row of a kernel, for a Correlation
constexpr Index kPixelsPacked = 128;  // whose gradient is packed at a time, for a KernelGradient
constexpr Index kFloatsPacked = 1 << 15;  // of them, at most: blocks * kPixelsPacked * width

// Where a pass reads. For pixel (image, row, column) and tap (down, across) it reads `run` floats
// from
//   source + image * image_stride + row_offset[down * rows + row] + column_offset[across * columns
//   + column]
// on. A negative offset says that the tap meets padding or, in an input gradient, falls between two
// strides.
struct Reach {
  const float* source;
  Index image_stride;
  Index images, rows, columns;  // the pixels that the pass goes over
  Index taps_down, taps_across;
  Index run;
  const Index* row_offset;
  const Index* column_offset;
  // Rows and columns all of whose taps read, and, where both do, how far from the first tap each
  // other lies. No row or column is such where strides leave gaps.
  const bool* row_is_inside;
  const bool* column_is_inside;
  const Index* distance;  // [taps]
  bool all_inside;
};

// out[pixel][channel] = sum over taps t and the run c of source[pixel, t][c] *
// kernel[t][c][channel]: a convolution forward, or its input gradient with the kernel's channels
// exchanged.
//
// Pixels are taken in an order in which neighbours meet the same taps, so that a tile skips the
// others: the images of one place together on small maps, the phases of a stride apart in input
// gradients.
struct Correlation {
  Reach reach;
  const Index* row_order;     // [rows]
  const Index* column_order;  // [columns]
  bool images_innermost;      // (row, column, image), else (image, row, column)
  const float* panels;        // the kernel as [blocks][taps][run][width], zeros where channels end
  Index width;                // floats in a row of a panel: whole vectors
  const float* zeros;         // `run` of them: what a tap on padding reads
  float* out;                 // [images][rows][columns][channels]
  Index channels;
};

// sums[group][t][c][channel] = sum over the group's pixels of source[pixel, t][c] *
// gradient[pixel][channel]. Groups are of fixed size, whatever the number of threads: so are the
// bits of their sums.
struct KernelGradient {
  Reach reach;
  const float* gradient;  // [images][rows][columns][channels]
  Index channels;
  Index width;  // floats in a row of a packed gradient: whole vectors
  Index pixels_per_group;
  float* sums;  // [groups][taps][run][channels]
};

// Sums of each channel over all pixels, for batch normalisation. Groups of pixels are summed apart.
struct ChannelSums {
  const float* x;         // [pixels][channels]
  const float* gradient;  // as x
  const float* mean;      // [channels]
  Index pixels, channels, pixels_per_group;
  float* sums;  // [groups][2][channels]
};

// The windows along one side that hold a place: from `first` to `last`, none where that is before
// it.
struct Windows {
  Index first, last;
};

// Max pooling; `chosen` holds the number of the first largest tap of each window.
struct Pooling {
  Index images, rows, columns, channels;
  Index pooled_rows, pooled_columns;
  Index window_down, window_across, stride_down, stride_across, pad_top, pad_left;
  const float* x;                  // [images][rows][columns][channels]
  float* y;                        // [images][pooled_rows][pooled_columns][channels]
  int8_t* chosen;                  // as y
  const float* gradient;           // of y
  float* x_gradient;               // as x
  const Windows* rows_windows;     // [rows], for the gradient
  const Windows* columns_windows;  // [columns]
};

// The tiles of one instruction set.
struct Tiles {
  int lanes;      // floats in a vector
  int widest;     // vectors across a tile, at most
  int pixels[5];  // pixels in a correlation's tile, by its width in vectors
  // One tap of a kernel [rows][channels], from channel `first` on, into [rows][width].
  void (*pack)(const float* kernel, Index rows, Index channels, Index first, Index width,
               float* panel);
  // The same of the exchanged kernel: [channels][columns] into [columns][width].
  void (*pack_exchanged)(const float* kernel, Index channels, Index columns, Index first,
                         Index width, float* panel);
  void (*correlate)(const Correlation&, Index first_tile, Index last_tile, Index first_block,
                    Index last_block);
  void (*kernel_gradient)(const KernelGradient&, Index group, Index first_block, Index last_block,
                          Index first_tap, Index last_tap);
  // total[i] = the sum over groups of sums[group * stride + i], i from first to last, groups in
  // their order.
  void (*add_groups)(const float* sums, Index groups, Index stride, Index first, Index last,
                     float* total);
  void (*pool)(const Pooling&, Index image, Index pooled_row);
  void (*pool_gradient)(const Pooling&, Index image, Index row);
  void (*moments)(const ChannelSums&, Index group);
  void (*moment_products)(const ChannelSums&, Index group);
};

extern const Tiles kPortable;
#if defined(__x86_64__) || defined(_M_X64)
#define JAXNETS_X86 1
extern const Tiles kAvx2;
extern const Tiles kAvx512;
#endif

}  // namespace jaxnets
