// The kernels as XLA calls them: buffers are checked, errors are returned, and work runs on XLA's
// threads.
#include <cstdint>
#include <new>
#include <string>
#include <vector>

#include "convolution.h"
#include "instructions.h"
#include "normalization.h"
#include "plan.h"
#include "pooling.h"
#include "xla/ffi/api/ffi.h"

namespace jaxnets {
namespace {

namespace ffi = xla::ffi;
using Numbers = ffi::Span<const int64_t>;
using In = ffi::AnyBuffer;
using Out = ffi::Result<ffi::AnyBuffer>;

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

template <typename T>
constexpr ffi::DataType kType = ffi::DataType::F32;
template <>
constexpr ffi::DataType kType<Bfloat16> = ffi::DataType::BF16;

template <typename T>
T* data(In buffer) {
  return static_cast<T*>(buffer.untyped_data());
}
template <typename T>
T* data(Out buffer) {
  return data<T>(*buffer);
}
// Runs work(T{}, kernels of T, pool) for the type of `values`, unless the shapes do not fit each
// other, and returns what it throws as an error.
template <typename Work>
ffi::Error run(const char* what, const In& values, bool fits, ffi::ThreadPool& threads,
               int32_t instructions, Work work) {
  if (!supports(instructions))
    return ffi::Error(ffi::ErrorCode::kFailedPrecondition,
                      std::string(what) + ": not for this CPU");
  if (!fits)
    return ffi::Error::InvalidArgument(std::string(what) + ": shapes do not fit each other");
  XlaPool pool(threads);
  try {
    if (values.element_type() == kType<float>)
      work(float{}, kernels_of<float>(instructions), pool);
    else if (values.element_type() == kType<Bfloat16>)
      work(Bfloat16{}, kernels_of<Bfloat16>(instructions), pool);
    else
      return ffi::Error::InvalidArgument(std::string(what) + ": neither float32 nor bfloat16");
  } catch (const std::bad_alloc&) {
    return ffi::Error(ffi::ErrorCode::kResourceExhausted, std::string(what) + ": out of memory");
  }
  return ffi::Error::Success();
}

Index count(const In& buffer) { return buffer.element_count(); }

bool is_image(const In& buffer) { return buffer.dimensions().size() == 4 && count(buffer) > 0; }

bool is_float(const In& buffer, Index size) {
  return buffer.element_type() == kType<float> && count(buffer) == size;
}

bool is_like(const In& buffer, const In& other) {
  return buffer.element_type() == other.element_type() && count(buffer) == count(other);
}

bool is_like_or_empty(const In& buffer, const In& other) {
  return count(buffer) == 0 || is_like(buffer, other);
}

// geometry: strides down and across, padding at the top and on the left, groups, rows and columns of
// the filter.
bool convolution_of(const In& x, const In& y, Numbers geometry, Convolution* shape) {
  if (geometry.size() != 7 || !is_image(x) || !is_image(y)) return false;
  const auto xs = x.dimensions(), ys = y.dimensions();
  *shape = {xs[0],       xs[1],       xs[2],       xs[3],       geometry[5], geometry[6], ys[1],
            ys[2],       ys[3],       geometry[0], geometry[1], geometry[2], geometry[3], geometry[4]};
  const Convolution& s = *shape;
  const bool halves = x.element_type() == kType<Bfloat16>;
  const bool pairs = !halves || s.groups == 1 || s.is_depthwise() ||
                     (s.channels / s.groups % 2 == 0 && s.out_channels / s.groups % 2 == 0);
  return xs[0] == ys[0] && x.element_type() == y.element_type() && s.groups > 0 &&
         s.channels % s.groups == 0 && s.out_channels % s.groups == 0 && pairs &&
         s.kernel_rows > 0 && s.kernel_columns > 0 && s.kernel_columns <= kTapsAcrossAtMost &&
         (!(halves || s.is_depthwise()) ||
          s.kernel_rows * s.kernel_columns <= kTapsAcrossAtMost) &&
         s.stride_down > 0 && s.stride_across > 0 && s.pad_top >= 0 && s.pad_left >= 0;
}

Index kernel_size(const Convolution& s) {
  return s.kernel_rows * s.kernel_columns * (s.channels / s.groups) * s.out_channels;
}

// The bias and the residual may be empty. A filter of more than kTapsAcrossAtMost taps has neither, nor
// ReLU.
ffi::Error Convolve(ffi::ThreadPool threads, In x, In kernel, In bias, In residual, Out y,
                    Numbers geometry, bool relu, int32_t instructions) {
  Convolution s;
  const bool has_bias = count(bias) > 0, has_residual = count(residual) > 0;
  const bool fits =
      convolution_of(x, *y, geometry, &s) && is_float(kernel, kernel_size(s)) &&
      (!has_bias || is_float(bias, s.out_channels)) && is_like_or_empty(residual, *y) &&
      (!(has_bias || has_residual || relu) || s.kernel_rows * s.kernel_columns <= kTapsAcrossAtMost);
  return run("convolution", x, fits, threads, instructions,
             [&](auto type, const auto& kernels, Pool& pool) {
               using T = decltype(type);
               const Epilogue<T> epilogue = {has_bias ? data<float>(bias) : nullptr,
                                             has_residual ? data<T>(residual) : nullptr, relu};
               forward<T>(s, data<T>(x), data<float>(kernel), nullptr, {}, epilogue, data<T>(y),
                          kernels, pool);
             });
}

ffi::Error PackKernel(ffi::ThreadPool threads, In kernel, Out panels, Numbers geometry,
                      int32_t instructions) {
  Convolution s = {};
  const auto ks = kernel.dimensions();
  bool fits = geometry.size() == 1 && ks.size() == 4 && is_float(kernel, count(kernel)) &&
              count(kernel) > 0 && geometry[0] > 0;
  if (fits) {
    s.groups = geometry[0], s.kernel_rows = ks[0], s.kernel_columns = ks[1];
    s.channels = ks[2] * s.groups, s.out_channels = ks[3];
    fits = s.out_channels % s.groups == 0;
  }
  return run("packing", *panels, fits, threads, instructions,
             [&](auto type, const auto& kernels, Pool& pool) {
               using T = decltype(type);
               pack_kernel<T>(s, data<float>(kernel), data<T>(panels), kernels, pool);
             });
}

bool normalizes_in_place(const In& x, const Convolution& s) {
  return s.kernel_rows * s.kernel_columns == 1 && s.groups == 1 && s.pad_top == 0 &&
         s.pad_left == 0 && (s.out_rows - 1) * s.stride_down < s.rows &&
         (s.out_columns - 1) * s.stride_across < s.columns &&
         (x.element_type() == kType<float> || s.channels % 2 == 0);
}

bool is_packed(const In& panels, const In& x, const Convolution& s, int32_t instructions) {
  if (s.is_depthwise()) return is_float(panels, kernel_size(s));  // which are not packed
  const Index size = x.element_type() == kType<float>
                         ? packed_size(s, kernels_of<float>(instructions))
                         : packed_size(s, kernels_of<Bfloat16>(instructions));
  return panels.element_type() == x.element_type() && count(panels) == size;
}

// The convolution reads the first channels of x, as many as the filter has, and writes the channels of y
// from `first` on. Other channels of y are those of `previous`, whose memory it has, or undefined if that
// is empty; the convolution is added to it if `adds`. `normalization` is empty or has a prologue's
// center, factor and offset.
ffi::Error ConvolvePacked(ffi::ThreadPool threads, In x, In panels, In bias, In normalization,
                          In previous, Out y, Numbers geometry, int64_t channels, int64_t first,
                          bool adds, bool relu, int32_t instructions) {
  Convolution s;
  const bool normalizes = count(normalization) > 0, is_first = count(previous) == 0;
  bool fits = convolution_of(x, *y, geometry, &s) && is_like_or_empty(previous, *y) &&
              bias.element_type() == kType<float> && 0 < channels && channels <= s.channels &&
              0 <= first && first + count(bias) <= s.out_channels && count(bias) > 0 &&
              (is_first || previous.untyped_data() == y->untyped_data());
  const bool is_part = fits && (channels < s.channels || count(bias) < s.out_channels);
  if (fits) {
    s.x_stride = s.channels, s.y_stride = s.out_channels;
    s.channels = channels, s.out_channels = count(bias);
    fits = s.kernel_rows * s.kernel_columns <= kTapsAcrossAtMost &&
           (s.groups == 1 || !is_part) && is_packed(panels, x, s, instructions) &&
           (!normalizes || (normalizes_in_place(x, s) && is_float(normalization, 3 * channels)));
  }
  return run("convolution with a packed filter", x, fits, threads, instructions,
             [&](auto type, const auto& kernels, Pool& pool) {
               using T = decltype(type);
               T* const out = data<T>(y) + first;
               Prologue prologue = {};
               if (normalizes) {
                 const float* values = data<float>(normalization);
                 prologue = {values, values + channels, values + 2 * channels};
               }
               const Epilogue<T> epilogue = {data<float>(bias), adds ? out : nullptr, relu};
               forward<T>(s, data<T>(x), data<float>(panels), data<T>(panels), prologue, epilogue,
                          out, kernels, pool);
             });
}

ffi::Error GradientOfInput(ffi::ThreadPool threads, In kernel, In y_gradient, Out x_gradient,
                           Numbers geometry, int32_t instructions) {
  Convolution s;
  const bool fits =
      convolution_of(*x_gradient, y_gradient, geometry, &s) && is_float(kernel, kernel_size(s));
  return run("input gradient", y_gradient, fits, threads, instructions,
             [&](auto type, const auto& kernels, Pool& pool) {
               using T = decltype(type);
               input_gradient<T>(s, data<float>(kernel), data<T>(y_gradient), data<T>(x_gradient),
                                 kernels, pool);
             });
}

ffi::Error GradientOfKernel(ffi::ThreadPool threads, In x, In y_gradient, Out gradient,
                            Numbers geometry, int32_t instructions) {
  Convolution s;
  const bool fits =
      convolution_of(x, y_gradient, geometry, &s) && is_float(*gradient, kernel_size(s));
  return run("kernel gradient", x, fits, threads, instructions,
             [&](auto type, const auto& kernels, Pool& pool) {
               using T = decltype(type);
               kernel_gradient<T>(s, data<T>(x), data<T>(y_gradient), data<float>(gradient),
                                  kernels, pool);
             });
}

// geometry: the window down and across, its strides, padding at the top and on the left.
template <typename T>
Pooling<T> pooling_of(const In& x, const In& y, Numbers geometry) {
  const auto xs = x.dimensions(), ys = y.dimensions();
  Pooling<T> p = {};
  p.images = xs[0], p.rows = xs[1], p.columns = xs[2], p.channels = xs[3];
  p.pooled_rows = ys[1], p.pooled_columns = ys[2];
  p.window_down = geometry[0], p.window_across = geometry[1];
  p.stride_down = geometry[2], p.stride_across = geometry[3];
  p.pad_top = geometry[4], p.pad_left = geometry[5];
  return p;
}

bool pooling_fits(const In& x, const In& y, const In& chosen, Numbers geometry) {
  if (geometry.size() != 6 || !is_image(x) || !is_image(y)) return false;
  const auto xs = x.dimensions(), ys = y.dimensions();
  if (xs[0] != ys[0] || xs[3] != ys[3] || x.element_type() != y.element_type()) return false;
  for (int i = 0; i < 4; i++)
    if (geometry[i] < 1) return false;
  return geometry[0] * geometry[1] <= INT8_MAX && geometry[4] >= 0 && geometry[5] >= 0 &&
         chosen.element_type() == ffi::DataType::S8;
}

// `chosen` is empty if no gradient is needed.
ffi::Error MaxPool(ffi::ThreadPool threads, In x, Out y, Out chosen, Numbers geometry,
                   int32_t instructions) {
  const bool fits = pooling_fits(x, *y, *chosen, geometry) &&
                    (count(*chosen) == 0 || count(*chosen) == count(*y));
  return run("max pooling", x, fits, threads, instructions,
             [&](auto type, const auto& kernels, Pool& threads) {
               using T = decltype(type);
               Pooling<T> p = pooling_of<T>(x, *y, geometry);
               p.x = data<T>(x), p.y = data<T>(y);
               p.chosen = count(*chosen) ? data<int8_t>(chosen) : nullptr;
               pool(p, kernels, threads);
             });
}

ffi::Error GradientOfPool(ffi::ThreadPool threads, In chosen, In y_gradient, Out x_gradient,
                          Numbers geometry, int32_t instructions) {
  const bool fits = pooling_fits(*x_gradient, y_gradient, chosen, geometry) &&
                    count(chosen) == count(y_gradient);
  return run("max pooling's gradient", y_gradient, fits, threads, instructions,
             [&](auto type, const auto& kernels, Pool& threads) {
               using T = decltype(type);
               Pooling<T> p = pooling_of<T>(*x_gradient, y_gradient, geometry);
               p.chosen = data<int8_t>(chosen), p.gradient = data<T>(y_gradient);
               p.x_gradient = data<T>(x_gradient);
               pool_gradient(p, kernels, threads);
             });
}

template <typename T>
Normalization<T> normalization_of(const In& x, bool relu) {
  Normalization<T> pass = {};
  pass.channels = x.dimensions()[3], pass.pixels = count(x) / pass.channels;
  pass.x = data<T>(x), pass.relu = relu;
  return pass;
}

// An empty residual is none.
ffi::Error BatchNorm(ffi::ThreadPool threads, In x, In scale, In bias, In residual, Out y, Out mean,
                     Out variance, float epsilon, bool relu, int32_t instructions) {
  const Index channels = is_image(x) ? x.dimensions()[3] : 0;
  const bool fits = channels > 0 && is_like(*y, x) && is_like_or_empty(residual, x) &&
                    is_float(scale, channels) && is_float(bias, channels) &&
                    is_float(*mean, channels) && is_float(*variance, channels);
  return run("batch normalisation", x, fits, threads, instructions,
             [&](auto type, const auto& kernels, Pool& pool) {
               using T = decltype(type);
               Normalization<T> pass = normalization_of<T>(x, relu);
               pass.residual = count(residual) ? data<T>(residual) : nullptr, pass.y = data<T>(y);
               moments(pass, data<float>(mean), data<float>(variance), kernels, pool);
               normalize(pass, data<float>(mean), data<float>(variance), data<float>(scale),
                         data<float>(bias), epsilon, kernels, pool);
             });
}

// y and the gradient of the residual are empty without a residual, y without ReLU too.
ffi::Error GradientOfBatchNorm(ffi::ThreadPool threads, In x, In y, In gradient, In scale, In bias,
                               In mean, In variance, Out x_gradient, Out scale_gradient,
                               Out bias_gradient, Out residual_gradient, float epsilon, bool relu,
                               int32_t instructions) {
  const Index channels = is_image(x) ? x.dimensions()[3] : 0;
  const bool reads_y = relu && count(*residual_gradient) > 0;
  const bool fits = channels > 0 && (reads_y ? is_like(y, x) : count(y) == 0) &&
                    is_like(gradient, x) && is_like(*x_gradient, x) &&
                    is_like_or_empty(*residual_gradient, x) && is_float(scale, channels) &&
                    is_float(bias, channels) && is_float(mean, channels) &&
                    is_float(variance, channels) && is_float(*scale_gradient, channels) &&
                    is_float(*bias_gradient, channels);
  return run("batch normalisation's gradient", x, fits, threads, instructions,
             [&](auto type, const auto& kernels, Pool& pool) {
               using T = decltype(type);
               Normalization<T> pass = normalization_of<T>(x, relu);
               pass.y = reads_y ? data<T>(y) : nullptr, pass.gradient = data<T>(gradient);
               pass.x_gradient = data<T>(x_gradient);
               pass.residual_gradient =
                   count(*residual_gradient) ? data<T>(residual_gradient) : nullptr;
               normalize_gradient(pass, data<float>(mean), data<float>(variance),
                                  data<float>(scale), data<float>(bias), epsilon,
                                  data<float>(scale_gradient), data<float>(bias_gradient), kernels,
                                  pool);
             });
}

ffi::Error SumOfSquares(ffi::ThreadPool threads, ffi::RemainingArgs arrays, Out sum,
                        int32_t instructions) {
  bool fits = arrays.size() > 0 && is_float(*sum, 1);
  std::vector<In> buffers;
  for (size_t i = 0; fits && i < arrays.size(); i++) {
    const auto array = arrays.get<In>(i);
    fits = array.has_value() && array->element_type() == kType<float>;
    if (fits) buffers.push_back(*array);
  }
  return run("sum of squares", *sum, fits, threads, instructions,
             [&](auto type, const auto& kernels, Pool& pool) {
               using T = decltype(type);
               std::vector<Values<T>> values;
               for (const In& array : buffers) values.push_back({data<T>(array), count(array)});
               *data<float>(sum) = static_cast<float>(sum_of_squares(values, kernels, pool));
             });
}

}  // namespace

// What __init__.py looks for.
#pragma GCC visibility push(default)

extern "C" const char* jaxnets_ffi_version() {
  return JAXNETS_FFI_VERSION;
}  // the version of the FFI that this was compiled against
extern "C" int jaxnets_supports(int instructions) { return supports(instructions); }
// The number of values of a packed filter, of 4 or 2 bytes each.
extern "C" int64_t jaxnets_packed_size(int bytes, int instructions, int64_t rows, int64_t columns,
                                       int64_t channels, int64_t out_channels, int64_t groups) {
  Convolution s = {};
  s.kernel_rows = rows, s.kernel_columns = columns, s.channels = channels * groups;
  s.out_channels = out_channels, s.groups = groups;
  return bytes == 2 ? packed_size(s, kernels_of<Bfloat16>(instructions))
                    : packed_size(s, kernels_of<float>(instructions));
}

#define JAXNETS_DEFINE(name, function, buffers)                                     \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(                                                    \
      name, function,                                                               \
      ffi::Ffi::Bind().Ctx<ffi::ThreadPool>() buffers.Attr<int32_t>("instructions"))

#define JAXNETS_GEOMETRY .Attr<Numbers>("geometry")
#define JAXNETS_NORMALIZATION .Attr<float>("epsilon").Attr<bool>("relu")

JAXNETS_DEFINE(jaxnets_convolution, Convolve,
               .Arg<In>().Arg<In>().Arg<In>().Arg<In>().Ret<ffi::AnyBuffer>()
                   JAXNETS_GEOMETRY.Attr<bool>("relu"));
JAXNETS_DEFINE(jaxnets_pack_kernel, PackKernel, .Arg<In>().Ret<ffi::AnyBuffer>() JAXNETS_GEOMETRY);
JAXNETS_DEFINE(jaxnets_convolution_packed, ConvolvePacked,
               .Arg<In>().Arg<In>().Arg<In>().Arg<In>().Arg<In>().Ret<ffi::AnyBuffer>()
                   JAXNETS_GEOMETRY.Attr<int64_t>("channels").Attr<int64_t>("first")
                   .Attr<bool>("adds").Attr<bool>("relu"));
JAXNETS_DEFINE(jaxnets_input_gradient, GradientOfInput,
               .Arg<In>().Arg<In>().Ret<ffi::AnyBuffer>() JAXNETS_GEOMETRY);
JAXNETS_DEFINE(jaxnets_kernel_gradient, GradientOfKernel,
               .Arg<In>().Arg<In>().Ret<ffi::AnyBuffer>() JAXNETS_GEOMETRY);
JAXNETS_DEFINE(jaxnets_max_pool, MaxPool,
               .Arg<In>().Ret<ffi::AnyBuffer>().Ret<ffi::AnyBuffer>() JAXNETS_GEOMETRY);
JAXNETS_DEFINE(jaxnets_max_pool_gradient, GradientOfPool,
               .Arg<In>().Arg<In>().Ret<ffi::AnyBuffer>() JAXNETS_GEOMETRY);
JAXNETS_DEFINE(jaxnets_batch_norm, BatchNorm,
               .Arg<In>().Arg<In>().Arg<In>().Arg<In>().Ret<ffi::AnyBuffer>()
                   .Ret<ffi::AnyBuffer>().Ret<ffi::AnyBuffer>() JAXNETS_NORMALIZATION);
JAXNETS_DEFINE(jaxnets_batch_norm_gradient, GradientOfBatchNorm,
               .Arg<In>().Arg<In>().Arg<In>().Arg<In>().Arg<In>().Arg<In>().Arg<In>()
                   .Ret<ffi::AnyBuffer>().Ret<ffi::AnyBuffer>().Ret<ffi::AnyBuffer>()
                   .Ret<ffi::AnyBuffer>() JAXNETS_NORMALIZATION);
JAXNETS_DEFINE(jaxnets_sum_of_squares, SumOfSquares, .RemainingArgs().Ret<ffi::AnyBuffer>());

#pragma GCC visibility pop

}  // namespace jaxnets
