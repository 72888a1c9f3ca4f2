// The kernels as XLA calls them: buffers checked, errors handed back, work on XLA's own threads.
#include <cstdint>
#include <new>
#include <string>

#include "convolution.h"
#include "normalization.h"
#include "plan.h"
#include "pooling.h"
#include "xla/ffi/api/ffi.h"

namespace jaxnets {
namespace {

namespace ffi = xla::ffi;
using Numbers = ffi::Span<const int64_t>;
using Images = ffi::Buffer<ffi::F32, 4>;
using Channels = ffi::Buffer<ffi::F32, 1>;
using Marks = ffi::Buffer<ffi::S8, 4>;

enum Instructions { kIsPortable = 0, kIsAvx2 = 1, kIsAvx512 = 2 };  // as load.py counts them

bool supports(int instructions) {
  switch (instructions) {
    case kIsPortable: return true;
#ifdef JAXNETS_X86
    case kIsAvx2: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case kIsAvx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
    default: return false;
  }
}

const Tiles* tiles_of(int32_t instructions) {
  if (!supports(instructions)) return nullptr;
#ifdef JAXNETS_X86
  if (instructions == kIsAvx2) return &kAvx2;
  if (instructions == kIsAvx512) return &kAvx512;
#endif
  return &kPortable;
}

class XlaPool : public Pool {
 public:
  explicit XlaPool(ffi::ThreadPool& threads) : threads_(threads) {}
  Index threads() override { return threads_.num_threads(); }
  void schedule(void (*task)(void*), void* data) override {
    threads_.Schedule([task, data] { task(data); });
  }

 private:
  ffi::ThreadPool& threads_;
};

// The tiles, or why there are none for these shapes; then the work, and what it throws as an error.
template <typename Work>
ffi::Error attempt(bool fits, const char* what, int32_t instructions, Work work) {
  const Tiles* tiles = tiles_of(instructions);
  if (tiles == nullptr)
    return ffi::Error(ffi::ErrorCode::kFailedPrecondition,
                      std::string(what) + ": not for this CPU");
  if (!fits)
    return ffi::Error::InvalidArgument(std::string(what) + ": shapes do not fit each other");
  try {
    work(*tiles);
  } catch (const std::bad_alloc&) {
    return ffi::Error(ffi::ErrorCode::kResourceExhausted, std::string(what) + ": out of memory");
  }
  return ffi::Error::Success();
}

// geometry: strides down and across, padding at the top and on the left.
Convolution shape_of(Numbers x, Numbers kernel, Numbers y, Numbers geometry) {
  return {x[0], x[1], x[2],        x[3],        kernel[0],   kernel[1],  y[1],
          y[2], y[3], geometry[0], geometry[1], geometry[2], geometry[3]};
}

bool fits(Numbers x, Numbers kernel, Numbers y, Numbers geometry) {
  if (geometry.size() != 4) return false;
  for (Numbers sizes : {x, kernel, y})
    for (int64_t size : sizes)
      if (size < 1) return false;
  return x[0] == y[0] && x[3] == kernel[2] && kernel[3] == y[3] && kernel[1] <= kTapsAcrossAtMost &&
         geometry[0] > 0 && geometry[1] > 0 && geometry[2] >= 0 && geometry[3] >= 0;
}

ffi::Error Convolve(ffi::ThreadPool threads, Images x, Images kernel, ffi::Result<Images> y,
                    Numbers geometry, int32_t instructions) {
  const auto xs = x.dimensions(), ks = kernel.dimensions(), ys = y->dimensions();
  return attempt(fits(xs, ks, ys, geometry), "convolution", instructions, [&](const Tiles& tiles) {
    XlaPool pool(threads);
    forward(shape_of(xs, ks, ys, geometry), x.typed_data(), kernel.typed_data(), y->typed_data(),
            tiles, pool);
  });
}

ffi::Error GradientOfInput(ffi::ThreadPool threads, Images kernel, Images y_gradient,
                           ffi::Result<Images> x_gradient, Numbers geometry, int32_t instructions) {
  const auto xs = x_gradient->dimensions(), ks = kernel.dimensions(), ys = y_gradient.dimensions();
  return attempt(fits(xs, ks, ys, geometry), "input gradient", instructions,
                 [&](const Tiles& tiles) {
                   XlaPool pool(threads);
                   input_gradient(shape_of(xs, ks, ys, geometry), kernel.typed_data(),
                                  y_gradient.typed_data(), x_gradient->typed_data(), tiles, pool);
                 });
}

ffi::Error GradientOfKernel(ffi::ThreadPool threads, Images x, Images y_gradient,
                            ffi::Result<Images> gradient, Numbers geometry, int32_t instructions) {
  const auto xs = x.dimensions(), ks = gradient->dimensions(), ys = y_gradient.dimensions();
  return attempt(fits(xs, ks, ys, geometry), "kernel gradient", instructions,
                 [&](const Tiles& tiles) {
                   XlaPool pool(threads);
                   kernel_gradient(shape_of(xs, ks, ys, geometry), x.typed_data(),
                                   y_gradient.typed_data(), gradient->typed_data(), tiles, pool);
                 });
}

// geometry: the window down and across, its strides, padding at the top and on the left.
Pooling pooling_of(Numbers x, Numbers y, Numbers geometry) {
  Pooling p = {};
  p.images = x[0], p.rows = x[1], p.columns = x[2], p.channels = x[3];
  p.pooled_rows = y[1], p.pooled_columns = y[2];
  p.window_down = geometry[0], p.window_across = geometry[1];
  p.stride_down = geometry[2], p.stride_across = geometry[3];
  p.pad_top = geometry[4], p.pad_left = geometry[5];
  return p;
}

bool pooling_fits(Numbers x, Numbers y, Numbers geometry) {
  if (geometry.size() != 6 || x[0] != y[0] || x[3] != y[3]) return false;
  for (int i = 0; i < 4; i++)
    if (geometry[i] < 1) return false;
  return geometry[0] * geometry[1] <= INT8_MAX && geometry[4] >= 0 && geometry[5] >= 0;
}

ffi::Error MaxPool(ffi::ThreadPool threads, Images x, ffi::Result<Images> y,
                   ffi::Result<Marks> chosen, Numbers geometry, int32_t instructions) {
  const auto xs = x.dimensions(), ys = y->dimensions();
  const bool fit = pooling_fits(xs, ys, geometry) && chosen->element_count() == y->element_count();
  return attempt(fit, "max pooling", instructions, [&](const Tiles& tiles) {
    Pooling p = pooling_of(xs, ys, geometry);
    p.x = x.typed_data(), p.y = y->typed_data(), p.chosen = chosen->typed_data();
    XlaPool pool_of_threads(threads);
    pool(p, tiles, pool_of_threads);
  });
}

ffi::Error GradientOfPool(ffi::ThreadPool threads, Marks chosen, Images y_gradient,
                          ffi::Result<Images> x_gradient, Numbers geometry, int32_t instructions) {
  const auto xs = x_gradient->dimensions(), ys = y_gradient.dimensions();
  const bool fit =
      pooling_fits(xs, ys, geometry) && chosen.element_count() == y_gradient.element_count();
  return attempt(fit, "max pooling's gradient", instructions, [&](const Tiles& tiles) {
    Pooling p = pooling_of(xs, ys, geometry);
    p.chosen = chosen.typed_data(), p.gradient = y_gradient.typed_data(),
    p.x_gradient = x_gradient->typed_data();
    XlaPool pool_of_threads(threads);
    pool_gradient(p, tiles, pool_of_threads);
  });
}

ffi::Error Moments(ffi::ThreadPool threads, Images x, ffi::Result<Channels> mean,
                   ffi::Result<Channels> variance, Numbers, int32_t instructions) {
  const Index channels = x.dimensions()[3], values = x.element_count();
  const bool fit = values > 0 && channels == Index(mean->element_count()) &&
                   channels == Index(variance->element_count());
  return attempt(fit, "moments", instructions, [&](const Tiles& tiles) {
    XlaPool pool(threads);
    moments(x.typed_data(), values / channels, channels, mean->typed_data(), variance->typed_data(),
            tiles, pool);
  });
}

ffi::Error MomentProducts(ffi::ThreadPool threads, Images x, Images gradient, Channels mean,
                          ffi::Result<Channels> sums, ffi::Result<Channels> products, Numbers,
                          int32_t instructions) {
  const Index channels = x.dimensions()[3], values = x.element_count();
  const bool fit = values > 0 && values == Index(gradient.element_count()) &&
                   channels == Index(mean.element_count()) &&
                   channels == Index(sums->element_count()) &&
                   channels == Index(products->element_count());
  return attempt(fit, "moments' gradient", instructions, [&](const Tiles& tiles) {
    XlaPool pool(threads);
    moment_products(x.typed_data(), gradient.typed_data(), mean.typed_data(), values / channels,
                    channels, sums->typed_data(), products->typed_data(), tiles, pool);
  });
}

}  // namespace

// What load.py looks for.
#pragma GCC visibility push(default)

extern "C" const char* jaxnets_ffi_version() {
  return JAXNETS_FFI_VERSION;
}  // the version of the FFI that this was compiled against
extern "C" int jaxnets_supports(int instructions) { return supports(instructions); }

#define JAXNETS_DEFINE(name, function, buffers)                                               \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(name, function,                                               \
                                ffi::Ffi::Bind()                                              \
                                    .Ctx<ffi::ThreadPool>() buffers.Attr<Numbers>("geometry") \
                                    .Attr<int32_t>("instructions"))

JAXNETS_DEFINE(jaxnets_convolution, Convolve, .Arg<Images>().Arg<Images>().Ret<Images>());
JAXNETS_DEFINE(jaxnets_input_gradient, GradientOfInput, .Arg<Images>().Arg<Images>().Ret<Images>());
JAXNETS_DEFINE(jaxnets_kernel_gradient, GradientOfKernel,
               .Arg<Images>().Arg<Images>().Ret<Images>());
JAXNETS_DEFINE(jaxnets_max_pool, MaxPool, .Arg<Images>().Ret<Images>().Ret<Marks>());
JAXNETS_DEFINE(jaxnets_max_pool_gradient, GradientOfPool,
               .Arg<Marks>().Arg<Images>().Ret<Images>());
JAXNETS_DEFINE(jaxnets_moments, Moments, .Arg<Images>().Ret<Channels>().Ret<Channels>());
JAXNETS_DEFINE(jaxnets_moment_products, MomentProducts,
               .Arg<Images>().Arg<Images>().Arg<Channels>().Ret<Channels>().Ret<Channels>());

#pragma GCC visibility pop

}  // namespace jaxnets
