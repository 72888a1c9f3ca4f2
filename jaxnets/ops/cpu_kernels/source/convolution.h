// Two-dimensional convolutions (cross-correlations), NHWC and HWIO, in float or bfloat16. Filters,
// their gradients and all sums are float.
#pragma once

#include "parallel.h"
#include "plan.h"

namespace jaxnets {

// The output's size implies the padding at the bottom and on the right. With several groups the
// filter is [kernel_rows][kernel_columns][channels / groups][out_channels].
struct Convolution {
  Index images, rows, columns, channels;      // x
  Index kernel_rows, kernel_columns;          // and channels / groups and out_channels
  Index out_rows, out_columns, out_channels;  // y
  Index stride_down, stride_across, pad_top, pad_left;
  Index groups = 1;
  // Values from a pixel to the next, if x or y are some channels of a wider tensor; else 0. Forward
  // only, and not of depthwise filters.
  Index x_stride = 0, y_stride = 0;

  bool is_depthwise() const { return groups > 1 && groups == channels && groups == out_channels; }
};

// The kernels of a CPU with tile instructions.
KernelsOf<Bfloat16> with_tiles(KernelsOf<Bfloat16> kernels, const TileKernels& tiles);

// The number of values of a filter that is packed for `forward`.
template <typename T>
Index packed_size(const Convolution& shape, const KernelsOf<T>& kernels);

// Each output is summed in an order that depends on the shapes only: the same bits for any number of
// threads. All functions throw std::bad_alloc where there is no memory for packed filters or partial
// sums.
template <typename T>
void pack_kernel(const Convolution& shape, const float* kernel, T* panels,
                 const KernelsOf<T>& kernels, Pool& pool);

// `panels` is the packed kernel, or null to pack it here; depthwise filters are never packed. y may be
// the residual, unless the filter has more than kTapsAcrossAtMost taps. A prologue is for filters of one
// tap without padding and groups, and for an even number of channels of bfloat16.
template <typename T>
void forward(const Convolution& shape, const T* x, const float* kernel, const T* panels,
             const Prologue& prologue, const Epilogue<T>& epilogue, T* y,
             const KernelsOf<T>& kernels, Pool& pool);
template <typename T>
void input_gradient(const Convolution& shape, const float* kernel, const T* y_gradient,
                    T* x_gradient, const KernelsOf<T>& kernels, Pool& pool);
template <typename T>
void kernel_gradient(const Convolution& shape, const T* x, const T* y_gradient,
                     float* kernel_gradient, const KernelsOf<T>& kernels, Pool& pool);

}  // namespace jaxnets
