// The structures that the planning code and the kernels of every instruction set share.
//
// Kernels are compiled once per instruction set. The linker merges an inline function that two of
// those files instantiate, and the copy that remains may contain instructions that the CPU lacks.
// Therefore this header has data and function pointers only, and kernels include nothing else but
// C's own types.
#pragma once

#include <stdint.h>

#if defined(__x86_64__) || defined(_M_X64)
#define JAXNETS_X86 1
#endif

namespace jaxnets {

using Index = int64_t;  // every offset and count: no tensor is too large for it

// The upper half of a float. Products of bfloat16 values are summed in float.
struct Bfloat16 {
  uint16_t bits;
};

constexpr Index kOutside = -1;            // an offset at which there is nothing to read
constexpr Index kTapsAcrossAtMost = 320;  // in a row of the filter, for a Correlation
constexpr Index kPixelsPacked = 128;  // pixels whose gradient is packed at a time (KernelGradient)
constexpr Index kValuesPacked = 1 << 15;  // at most: blocks * kPixelsPacked * width
constexpr Index kValuesNormalized = 1 << 15;  // at a time, in a Correlation with a prologue

// Which input values each output pixel reads. For pixel (image, row, column) and tap (down, across)
// it reads `run` values from
//   source + image * image_stride + row_offset[down * rows + row] +
//   column_offset[across * columns + column]
// on. A negative offset means that the tap lies in the padding or, in an input gradient, between
// two strides.
template <typename T>
struct Reach {
  const T* source;
  Index image_stride;
  Index images, rows, columns;  // the pixels that the pass iterates over
  Index taps_down, taps_across;
  Index run;  // even if T is Bfloat16 and the pass is a Correlation
  const Index* row_offset;
  const Index* column_offset;
  // Rows and columns whose taps all read, and the distance of each tap from the first where both
  // do. There are no such rows or columns where strides leave gaps.
  const bool* row_is_inside;
  const bool* column_is_inside;
  const Index* distance;  // [taps]
  bool all_inside;
};

// What is done to a sum before it is stored: + bias[channel] + residual[pixel][channel], ReLU.
template <typename T>
struct Epilogue {
  const float* bias;  // [channels] or null
  const T* residual;  // as the output, or null
  bool relu;
};

// What is done to the values that a pointwise convolution reads, as `Normalization` with ReLU.
struct Prologue {
  const float* center;  // [run] or null, then there is none
  const float* factor;
  const float* offset;
};

// out[pixel][channel] = sum over taps t and the run c of source[pixel, t][c] *
// kernel[t][c][channel]: a convolution's forward pass, or its input gradient with the kernel's
// channels exchanged.
//
// Pixels are taken in an order in which neighbours read the same taps, so that a tile skips the
// others: on small maps one place of all images, in input gradients one phase of the stride.
template <typename T>
struct Correlation {
  Reach<T> reach;
  const Index* row_order;     // [rows]
  const Index* column_order;  // [columns]
  bool images_innermost;      // (row, column, image), else (image, row, column)
  // The kernel, zero beyond `channels` and `run`: float [blocks][taps][panel_rows][width],
  // Bfloat16 [blocks][taps][panel_rows / 2][width][2].
  const T* panels;
  Index width;       // channels of a panel: whole vectors
  Index panel_rows;  // the run, rounded up to KernelsOf::rows_step
  const T* zeros;  // `run` zeros, which taps in the padding read
  T* out;          // [images][rows][columns][out_stride], of which `channels` are written
  Index channels, out_stride;
  Prologue prologue;
  Epilogue<T> epilogue;
};

// sums[group][t][c][channel] = sum over the pixels of a group of source[pixel, t][c] *
// gradient[pixel][channel]. The size of a group does not depend on the number of threads, so that
// the bits of the sums do not either.
template <typename T>
struct KernelGradient {
  Reach<T> reach;
  const T* gradient;  // [images][rows][columns][gradient_stride], of which `channels` are read
  Index channels, gradient_stride;
  Index width;     // channels of a packed gradient: whole vectors
  const T* zeros;  // `run` zeros
  Index pixels_per_group;
  float* sums;  // [groups][taps][run][sums_stride]
  Index sums_stride, group_stride;
};

// Columns that read the same taps: `count` from `first` on, `step` apart. What they read lies `shift`
// values apart.
struct Strip {
  Index first, count, step, shift;
};

// A convolution in which each channel has its own filter. `reach.run` is the number of channels.
template <typename T>
struct Depthwise {
  Reach<T> reach;
  const Strip* strips;
  Index strip_count;
  const float* kernel;  // [taps][channels]
  T* out;               // [images][rows][columns][channels]
  Epilogue<T> epilogue;
  const T* gradient;  // [images][rows][columns][channels], for the kernel gradient
  Index rows_per_group;
  float* sums;  // [groups][taps][channels]; a group is some rows of all images
};

// Batch normalisation of [pixels][channels]: sums over the pixels of a group, or all values.
template <typename T>
struct Normalization {
  Index pixels, channels, pixels_per_group;
  const T* x;
  const T* residual;  // or null
  bool relu;
  T* y;  // the output; in the gradients with `relu` read, or null where there was no residual
  const T* gradient;  // of the output
  T* x_gradient;
  T* residual_gradient;  // or null
  float* sums;           // [groups][2][channels]
  // [channels]: y = (x - center) * factor + offset;
  // x_gradient = factor * (gradient - shift - (x - center) * tilt)
  const float* center;
  const float* factor;
  const float* offset;
  const float* shift;
  const float* tilt;
};

// The windows along one side that contain a place, from `first` to `last`; none if that is smaller.
struct Windows {
  Index first, last;
};

// Max pooling; `chosen` holds the number of the first largest tap of each window, and may be null.
template <typename T>
struct Pooling {
  Index images, rows, columns, channels;
  Index pooled_rows, pooled_columns;
  Index window_down, window_across, stride_down, stride_across, pad_top, pad_left;
  const T* x;                      // [images][rows][columns][channels]
  T* y;                            // [images][pooled_rows][pooled_columns][channels]
  int8_t* chosen;                  // as y
  const T* gradient;               // of y
  T* x_gradient;                   // as x
  const Windows* rows_windows;     // [rows], for the gradient
  const Windows* columns_windows;  // [columns]
};

// The kernels of one instruction set for one type.
template <typename T>
struct KernelsOf {
  int lanes;      // channels in a vector
  int widest;     // vectors across a tile, at most
  int pixels[5];  // pixels in a Correlation's tile, by its width in vectors
  int rows_step;  // rows of a panel are a multiple of it
  bool gathers;   // `correlate` needs scratch memory: pixels * taps * panel_rows values. With a
                  // prologue all do: kValuesNormalized or, if it is more, pixels * panel_rows
  // One tap of a kernel [rows][stride] into a panel of `padded` rows (a multiple of 2 for Bfloat16),
  // channels `first` to `first + count`.
  void (*pack)(const float* kernel, Index rows, Index padded, Index stride, Index first, Index count,
               Index width, T* panel);
  // The same of the exchanged kernel: [channels][stride], of which `columns` are read, into a panel
  // of `padded` rows.
  void (*pack_exchanged)(const float* kernel, Index columns, Index padded, Index stride, Index first,
                         Index count, Index width, T* panel);
  void (*correlate)(const Correlation<T>&, Index first_tile, Index last_tile, Index first_block,
                    Index last_block, T* scratch);
  void (*kernel_gradient)(const KernelGradient<T>&, Index group, Index first_block, Index last_block,
                          Index first_tap, Index last_tap);
  void (*depthwise)(const Depthwise<T>&, Index image, Index row);
  void (*depthwise_kernel_gradient)(const Depthwise<T>&, Index group);
  void (*pool)(const Pooling<T>&, Index image, Index pooled_row);
  void (*pool_gradient)(const Pooling<T>&, Index image, Index row);
  // Sums over a group of pixels: mean and squared deviations, and those of a gradient.
  void (*moments)(const Normalization<T>&, Index group);
  void (*gradient_sums)(const Normalization<T>&, Index group);
  // The values from pixel `first` to before `last`.
  void (*normalize)(const Normalization<T>&, Index first, Index last);
  void (*normalize_gradient)(const Normalization<T>&, Index first, Index last);
  float (*sum_of_squares)(const T* values, Index count);
  // total[i] = the sum over groups of sums[group * stride + i], i from first to last, in the order
  // of the groups.
  void (*add_groups)(const float* sums, Index groups, Index stride, Index first, Index last,
                     float* total);
};

// What replaces functions of a KernelsOf<Bfloat16> on CPUs with tile instructions.
struct TileKernels {
  void (*correlate)(const Correlation<Bfloat16>&, Index first_tile, Index last_tile,
                    Index first_block, Index last_block, Bfloat16* scratch);
  void (*kernel_gradient)(const KernelGradient<Bfloat16>&, Index group, Index first_block,
                          Index last_block, Index first_tap, Index last_tap);
};

extern const TileKernels kEmulatedAmx;
extern const KernelsOf<float> kPortable;
extern const KernelsOf<Bfloat16> kPortableHalf;
#ifdef JAXNETS_X86
extern const KernelsOf<float> kAvx2, kAvx512;
extern const KernelsOf<Bfloat16> kAvx2Half, kAvx512Bf16Half;
extern const TileKernels kAmx;
#endif

}  // namespace jaxnets
