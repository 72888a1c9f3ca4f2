// The three passes of a two-dimensional convolution (cross-correlation), NHWC and HWIO, single
// precision.
#pragma once

#include "parallel.h"
#include "plan.h"

namespace jaxnets {

// Padding at the bottom and on the right is what the output's size says.
struct Convolution {
  Index images, rows, columns, channels;      // x
  Index kernel_rows, kernel_columns;          // and channels and out_channels
  Index out_rows, out_columns, out_channels;  // y
  Index stride_down, stride_across, pad_top, pad_left;
};

// Each output is summed in an order that the shapes alone decide: the same bits for any number of
// threads. Throw std::bad_alloc where there is no memory for packed kernels or partial sums.
void forward(const Convolution& shape, const float* x, const float* kernel, float* y,
             const Tiles& tiles, Pool& pool);
void input_gradient(const Convolution& shape, const float* kernel, const float* y_gradient,
                    float* x_gradient, const Tiles& tiles, Pool& pool);
void kernel_gradient(const Convolution& shape, const float* x, const float* y_gradient,
                     float* kernel_gradient, const Tiles& tiles, Pool& pool);

}  // namespace jaxnets
