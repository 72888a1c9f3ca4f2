// The kernels of both types against plain loops in double precision, on pools of threads that behave
// well and badly. Built with sanitizers by test_stress.py: stress CASES [SEED]. Says what differs and
// exits with 1.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <condition_variable>
#include <deque>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "convolution.h"
#include "instructions.h"
#include "normalization.h"
#include "pooling.h"

using namespace jaxnets;

namespace {

// Of sums in float, and of results that are rounded to bfloat16.
constexpr double kTolerance = 1e-5, kHalfTolerance = 1.0 / 256;
template <typename T>
constexpr double kRounding = sizeof(T) == 2 ? kHalfTolerance : kTolerance;

// Threads that take tasks from a queue.
class Threads : public Pool {
 public:
  explicit Threads(Index count) {
    for (Index i = 0; i < count; i++) threads_.emplace_back([this] { work(); });
  }
  ~Threads() override {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      ending_ = true;
    }
    changed_.notify_all();
    for (auto& thread : threads_) thread.join();
  }
  Index threads() override { return threads_.size() + 1; }
  void schedule(void (*task)(void*), void* data) override {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      tasks_.emplace_back(task, data);
    }
    changed_.notify_one();
  }

 private:
  void work() {
    for (;;) {
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [this] { return ending_ || !tasks_.empty(); });
      if (tasks_.empty()) return;
      const auto [task, data] = tasks_.front();
      tasks_.pop_front();
      lock.unlock();
      task(data);
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::pair<void (*)(void*), void*>> tasks_;
  bool ending_ = false;
  std::vector<std::thread> threads_;
};

// Runs every task in the caller, as XLA's does where it has no threads.
class Caller : public Pool {
 public:
  Index threads() override { return 4; }
  void schedule(void (*task)(void*), void* data) override { task(data); }
};

// Busy elsewhere: its tasks come when the call that asked for them is long over.
class Late : public Pool {
 public:
  ~Late() override {
    for (const auto& [task, data] : tasks_) task(data);
  }
  Index threads() override { return 4; }
  void schedule(void (*task)(void*), void* data) override { tasks_.emplace_back(task, data); }

 private:
  std::vector<std::pair<void (*)(void*), void*>> tasks_;
};

float to_float(float value) { return value; }
float to_float(Bfloat16 value) {
  const uint32_t bits = uint32_t(value.bits) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

template <typename T>
T from_float(float value);
template <>
float from_float<float>(float value) {
  return value;
}
template <>
Bfloat16 from_float<Bfloat16>(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if (value != value) return {0x7fff};
  return {uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

// Values that end where their memory ends, at an address that is no multiple of a vector.
template <typename T>
class Values {
 public:
  explicit Values(Index count)
      : memory_(count + 1, from_float<T>(std::numeric_limits<float>::quiet_NaN())) {}
  T* data() { return memory_.data() + 1; }
  const T* data() const { return memory_.data() + 1; }
  Index size() const { return memory_.size() - 1; }
  void set(Index i, float value) { memory_[i + 1] = from_float<T>(value); }
  float operator[](Index i) const { return to_float(memory_[i + 1]); }
  bool operator==(const Values& other) const {
    return size() == other.size() && std::memcmp(data(), other.data(), size() * sizeof(T)) == 0;
  }

 private:
  std::vector<T> memory_;
};
using Floats = Values<float>;

using Random = std::mt19937;

Index draw(Random& random, Index least, Index most) {
  return std::uniform_int_distribution<Index>(least, most)(random);
}

Index draw_channels(Random& random) {
  const Index some[] = {1, 2, 3, 6, 7, 15, 16, 17, 31, 48, 64, 65, 100};
  return some[draw(random, 0, 12)];
}

template <typename T>
Values<T> draw_values(Random& random, Index count, float mean = 0) {
  std::normal_distribution<float> normal(mean);
  Values<T> values(count);
  for (Index i = 0; i < count; i++) values.set(i, normal(random));
  return values;
}

Convolution draw_convolution(Random& random) {
  Convolution s;
  s.images = draw(random, 1, 7), s.channels = draw_channels(random),
  s.out_channels = draw_channels(random);
  switch (draw(random, 0, 3)) {
    case 0:  // depthwise
      s.groups = s.out_channels = s.channels;
      break;
    case 1:
      s.groups = draw(random, 2, 4);
      s.channels = s.groups * 2 * draw(random, 1, 10);
      s.out_channels = s.groups * 2 * draw(random, 1, 10);
  }
  s.kernel_rows = draw(random, 1, 5), s.kernel_columns = draw(random, 1, 7);
  s.stride_down = draw(random, 1, 3), s.stride_across = draw(random, 1, 3);
  s.pad_top = draw(random, 0, 3), s.pad_left = draw(random, 0, 3);
  const Index bottom = draw(random, 0, 3), right = draw(random, 0, 3);
  s.rows = draw(random, std::max<Index>(1, s.kernel_rows - s.pad_top - bottom), 14);
  s.columns = draw(random, std::max<Index>(1, s.kernel_columns - s.pad_left - right), 14);
  s.out_rows = (s.rows + s.pad_top + bottom - s.kernel_rows) / s.stride_down + 1;
  s.out_columns = (s.columns + s.pad_left + right - s.kernel_columns) / s.stride_across + 1;
  return s;
}

// Kernels of more taps than are looked up at a time: sums are stored, and loaded again for the rest.
// Channels, and so the tiles' last vectors, are ragged.
Convolution large_kernel(Index stride) {
  Convolution s;
  s.images = 2, s.channels = 17, s.out_channels = 17;
  s.rows = 23, s.columns = 22, s.kernel_rows = 20, s.kernel_columns = 20;
  s.stride_down = stride, s.stride_across = stride, s.pad_top = 1, s.pad_left = 2;
  s.out_rows = (s.rows + 2 * s.pad_top - s.kernel_rows) / stride + 1;
  s.out_columns = (s.columns + 2 * s.pad_left - s.kernel_columns) / stride + 1;
  return s;
}

// Calls visit(x, kernel, y) with the offsets of every product of the convolution.
template <typename Visit>
void for_each_product(const Convolution& s, Visit visit) {
  for (Index n = 0; n < s.images; n++)
    for (Index i = 0; i < s.out_rows; i++)
      for (Index j = 0; j < s.out_columns; j++)
        for (Index r = 0; r < s.kernel_rows; r++)
          for (Index c = 0; c < s.kernel_columns; c++) {
            const Index row = i * s.stride_down + r - s.pad_top,
                        column = j * s.stride_across + c - s.pad_left;
            if (row < 0 || row >= s.rows || column < 0 || column >= s.columns) continue;
            const Index x = ((n * s.rows + row) * s.columns + column) * s.channels;
            const Index y = ((n * s.out_rows + i) * s.out_columns + j) * s.out_channels;
            const Index rows = s.channels / s.groups, width = s.out_channels / s.groups;
            for (Index in = 0; in < s.channels; in++) {
              const Index kernel =
                  ((r * s.kernel_columns + c) * rows + in % rows) * s.out_channels;
              for (Index out = in / rows * width; out < (in / rows + 1) * width; out++)
                visit(x + in, kernel + out, y + out);
            }
          }
}

template <typename T>
bool same(const char* what, const Values<T>& ours, const std::vector<double>& exact,
          double tolerance = kRounding<T>) {
  double difference = 0, largest = 0;
  for (Index i = 0; i < ours.size(); i++) {
    difference = std::max(difference, std::abs(ours[i] - exact[i]));
    largest = std::max(largest, std::abs(exact[i]));
    if (std::isnan(ours[i])) difference = std::numeric_limits<double>::infinity();
  }
  if (difference <= tolerance * largest) return true;
  std::printf("%s: %g of the largest value %g\n", what, difference / largest, largest);
  return false;
}

std::string describe(const Convolution& s) {
  char text[220];
  std::snprintf(text, sizeof text,
                "x %ldx%ldx%ldx%ld kernel %ldx%ld y %ldx%ldx%ld strides %ld %ld pads %ld %ld groups %ld",
                long(s.images), long(s.rows), long(s.columns), long(s.channels),
                long(s.kernel_rows), long(s.kernel_columns), long(s.out_rows), long(s.out_columns),
                long(s.out_channels), long(s.stride_down), long(s.stride_across), long(s.pad_top),
                long(s.pad_left), long(s.groups));
  return text;
}

template <typename T>
using Tables = std::vector<const KernelsOf<T>*>;

// All passes with every table of kernels on every pool: right, and the same bits on each pool.
template <typename T>
bool check_convolution(const Convolution& s, Random& random, const Tables<T>& tables,
                       const std::vector<Pool*>& pools) {
  const Index kernel_size =
      s.kernel_rows * s.kernel_columns * (s.channels / s.groups) * s.out_channels;
  const auto x = draw_values<T>(random, s.images * s.rows * s.columns * s.channels);
  // A depthwise filter is used as it is, others are rounded to T.
  Floats kernel = draw_values<float>(random, kernel_size);
  for (Index i = 0; i < kernel_size; i++) kernel.set(i, to_float(from_float<T>(kernel[i])));
  const auto slope = draw_values<T>(random, s.images * s.out_rows * s.out_columns * s.out_channels);
  const Floats bias = draw_values<float>(random, s.out_channels);
  const auto residual = draw_values<T>(random, slope.size());
  std::vector<double> y(slope.size()), finished(y.size()), by_x(x.size()), by_kernel(kernel_size);
  for_each_product(s, [&](Index at_x, Index at_kernel, Index at_y) {
    y[at_y] += double(x[at_x]) * kernel[at_kernel];
    by_x[at_x] += double(slope[at_y]) * kernel[at_kernel];
    by_kernel[at_kernel] += double(slope[at_y]) * x[at_x];
  });
  for (Index i = 0; i < Index(y.size()); i++)
    finished[i] = std::max(0.0, y[i] + bias[i % s.out_channels] + residual[i]);
  bool right = true;
  for (const KernelsOf<T>* kernels : tables) {
    std::vector<Values<T>> first;
    std::vector<Floats> first_by_kernel;
    for (Pool* pool : pools) {
      Values<T> results[] = {Values<T>(y.size()), Values<T>(y.size()), Values<T>(by_x.size())};
      Floats gradient(kernel_size);
      forward<T>(s, x.data(), kernel.data(), nullptr, {}, {}, results[0].data(), *kernels, *pool);
      Values<T> panels(s.is_depthwise() ? 1 : packed_size(s, *kernels));
      if (!s.is_depthwise()) pack_kernel(s, kernel.data(), panels.data(), *kernels, *pool);
      results[1] = residual;  // in whose place the result comes
      const bool large = s.kernel_rows * s.kernel_columns > kTapsAcrossAtMost;  // has none
      const Epilogue<T> epilogue = {bias.data(), (large ? residual : results[1]).data(), true};
      forward<T>(s, x.data(), kernel.data(), panels.data(), {}, epilogue, results[1].data(), *kernels,
                 *pool);
      input_gradient(s, kernel.data(), slope.data(), results[2].data(), *kernels, *pool);
      kernel_gradient(s, x.data(), slope.data(), gradient.data(), *kernels, *pool);
      if (first.empty()) {
        first.assign(results, results + 3);
        first_by_kernel.push_back(gradient);
        right &= same("forward", results[0], y);
        right &= same("forward with epilogue", results[1], finished);
        right &= same("input gradient", results[2], by_x);
        right &= same("kernel gradient", gradient, by_kernel);
      }
      bool equal = gradient == first_by_kernel[0];
      for (int i = 0; i < 3; i++) equal &= results[i] == first[i];
      if (!equal) std::printf("convolution: other bits on another pool\n");
      right &= equal;
    }
  }
  if (!right) std::printf("  %zu bytes, %s\n", sizeof(T), describe(s).c_str());
  return right;
}

// A convolution between the other channels of wider tensors, which it must neither read nor write; of one
// tap without padding also with a prologue.
template <typename T>
bool check_channels(Convolution s, Random& random, const Tables<T>& tables,
                    const std::vector<Pool*>& pools) {
  if (s.groups > 1) return true;
  const bool is_pointwise = draw(random, 0, 1);
  if (is_pointwise) {
    s.kernel_rows = s.kernel_columns = 1, s.pad_top = s.pad_left = 0;
    s.out_rows = (s.rows - 1) / s.stride_down + 1;
    s.out_columns = (s.columns - 1) / s.stride_across + 1;
  }
  const bool normalizes = is_pointwise && (sizeof(T) == 4 || s.channels % 2 == 0);
  const Index before = draw(random, 0, 20), after = draw(random, 0, 20);
  const Index pixels = s.images * s.rows * s.columns, size = before + s.channels + after;
  const Index out_pixels = s.images * s.out_rows * s.out_columns;
  const Index out_size = before + s.out_channels + after;
  const auto part = draw_values<T>(random, pixels * s.channels);
  const Floats kernel =
      draw_values<float>(random, s.kernel_rows * s.kernel_columns * s.channels * s.out_channels);
  const Floats bias = draw_values<float>(random, s.out_channels);
  const Floats normalization = draw_values<float>(random, 3 * s.channels);
  Values<T> x(pixels * size), y(out_pixels * out_size);  // the others are NaN
  std::vector<double> read(part.size()), exact(out_pixels * s.out_channels);
  for (Index i = 0; i < part.size(); i++) {
    const Index c = i % s.channels;
    x.set(i / s.channels * size + before + c, part[i]);
    const float normal = std::max(0.0f, (part[i] - normalization[c]) * normalization[s.channels + c] +
                                            normalization[2 * s.channels + c]);
    read[i] = normalizes ? to_float(from_float<T>(normal)) : part[i];
  }
  for_each_product(s, [&](Index at_x, Index at_kernel, Index at_y) {
    exact[at_y] += read[at_x] * to_float(from_float<T>(kernel[at_kernel]));
  });
  for (Index i = 0; i < Index(exact.size()); i++)
    exact[i] = std::max(0.0, exact[i] + bias[i % s.out_channels]);
  Prologue prologue = {};
  if (normalizes) {
    const float* values = normalization.data();
    prologue = {values, values + s.channels, values + 2 * s.channels};
  }
  const Epilogue<T> epilogue = {bias.data(), nullptr, true};
  bool right = true;
  for (const KernelsOf<T>* kernels : tables) {
    Values<T> panels(packed_size(s, *kernels));
    pack_kernel(s, kernel.data(), panels.data(), *kernels, *pools[0]);
    Values<T> first(0);
    for (Pool* pool : pools) {
      Values<T> ours = y, found(exact.size());
      Convolution wide = s;
      wide.x_stride = size, wide.y_stride = out_size;
      forward<T>(wide, x.data() + before, kernel.data(), panels.data(), prologue, epilogue,
                 ours.data() + before, *kernels, *pool);
      bool untouched = true;
      for (Index i = 0; i < ours.size(); i++) {
        const Index c = i % out_size - before;
        if (c >= 0 && c < s.out_channels)
          found.set(i / out_size * s.out_channels + c, ours[i]);
        else
          untouched &= std::isnan(ours[i]);
      }
      if (!untouched) std::printf("channels of others were written\n");
      right &= untouched && same("some channels", found, exact);
      if (pool == pools[0]) first = found;
      if (!(found == first)) std::printf("some channels: other bits on another pool\n"), right = false;
    }
  }
  if (!right) std::printf("  %zu bytes, %s\n", sizeof(T), describe(s).c_str());
  return right;
}

// Values full of ties and NaN: the first of the largest is chosen, a NaN over what came before it.
template <typename T>
bool check_pooling(Random& random, const Tables<T>& tables, const std::vector<Pool*>& pools) {
  Pooling<T> p = {};
  p.images = draw(random, 1, 4), p.channels = draw_channels(random);
  p.window_down = draw(random, 1, 4), p.window_across = draw(random, 1, 4);
  p.stride_down = draw(random, 1, 3), p.stride_across = draw(random, 1, 3);
  p.pad_top = draw(random, 0, p.window_down - 1), p.pad_left = draw(random, 0, p.window_across - 1);
  p.rows = draw(random, p.window_down, 12), p.columns = draw(random, p.window_across, 12);
  p.pooled_rows = (p.rows + p.pad_top - p.window_down) / p.stride_down + 1;
  p.pooled_columns = (p.columns + p.pad_left - p.window_across) / p.stride_across + 1;
  Values<T> x(p.images * p.rows * p.columns * p.channels);
  for (Index i = 0; i < x.size(); i++)
    x.set(i, draw(random, 0, 9) ? float(draw(random, 0, 2))
                                : std::numeric_limits<float>::quiet_NaN());
  const auto slope =
      draw_values<T>(random, p.images * p.pooled_rows * p.pooled_columns * p.channels);
  std::vector<float> y(slope.size());
  std::vector<double> by_x(x.size());
  for (Index at = 0; at < Index(y.size()); at++) {
    const Index channel = at % p.channels, pixel = at / p.channels, j = pixel % p.pooled_columns;
    const Index i = pixel / p.pooled_columns % p.pooled_rows,
                n = pixel / p.pooled_columns / p.pooled_rows;
    float largest = -std::numeric_limits<float>::infinity();
    Index chosen = -1;
    for (Index r = 0; r < p.window_down; r++)
      for (Index c = 0; c < p.window_across; c++) {
        const Index row = i * p.stride_down + r - p.pad_top,
                    column = j * p.stride_across + c - p.pad_left;
        if (row < 0 || row >= p.rows || column < 0 || column >= p.columns) continue;
        const Index from = ((n * p.rows + row) * p.columns + column) * p.channels + channel;
        if (chosen < 0 || x[from] > largest || std::isnan(x[from]))
          largest = x[from], chosen = from;
      }
    y[at] = largest, by_x[chosen] += slope[at];
  }
  bool right = true;
  p.x = x.data(), p.gradient = slope.data();
  for (const KernelsOf<T>* kernels : tables)
    for (Pool* threads : pools) {
      Values<T> our_y(y.size()), without(y.size()), our_gradient(x.size());
      std::vector<int8_t> chosen(y.size());
      p.y = our_y.data(), p.chosen = chosen.data(), p.x_gradient = our_gradient.data();
      pool(p, *kernels, *threads);
      pool_gradient(p, *kernels, *threads);
      p.y = without.data(), p.chosen = nullptr;
      pool(p, *kernels, *threads);
      for (Index i = 0; i < our_y.size(); i++) {
        right &= our_y[i] == y[i] || (std::isnan(our_y[i]) && std::isnan(y[i]));
        right &= without[i] == y[i] || (std::isnan(without[i]) && std::isnan(y[i]));
      }
      if (!right) std::printf("pooling\n");
      right &= same("pooling's gradient", our_gradient, by_x);
    }
  return right;
}

// Values far from zero: what cancels in the mean of squares less the square of the mean must not.
template <typename T>
bool check_normalization(Random& random, const Tables<T>& tables, const std::vector<Pool*>& pools) {
  // Many pixels in one case of four: from 65,536 values on they are summed in groups.
  const Index most = draw(random, 0, 3) ? 300 : 5000;
  const float epsilon = 1e-3f, far = sizeof(T) == 2 ? 2 : 100;  // bfloat16 has few digits
  const Index channels = draw_channels(random), pixels = draw(random, 1, most);
  const bool relu = draw(random, 0, 1), adds = draw(random, 0, 1);
  const auto x = draw_values<T>(random, pixels * channels, far);
  const auto slope = draw_values<T>(random, pixels * channels);
  const auto residual = draw_values<T>(random, pixels * channels);
  const Floats scale = draw_values<float>(random, channels, 1), bias = draw_values<float>(random, channels);
  std::vector<double> mean(channels), variance(channels), sums(channels), products(channels);
  std::vector<double> y(x.size()), by_x(x.size()), by_residual(x.size());
  for (Index i = 0; i < x.size(); i++) mean[i % channels] += double(x[i]) / pixels;
  for (Index i = 0; i < x.size(); i++)
    variance[i % channels] += (x[i] - mean[i % channels]) * (x[i] - mean[i % channels]) / pixels;
  for (Index i = 0; i < x.size(); i++) {
    const Index c = i % channels;
    y[i] = (x[i] - mean[c]) / std::sqrt(variance[c] + epsilon) * scale[c] + bias[c];
    if (adds) y[i] += residual[i];
    if (relu) y[i] = std::max(y[i], 0.0);
  }
  bool right = true;
  for (const KernelsOf<T>* kernels : tables) {
    std::vector<Values<T>> first;
    std::vector<Floats> first_sums;
    for (Pool* pool : pools) {
      Values<T> results[] = {Values<T>(x.size()), Values<T>(x.size()), Values<T>(x.size())};
      Floats statistics[] = {Floats(channels), Floats(channels), Floats(channels), Floats(channels)};
      Normalization<T> pass = {};
      pass.pixels = pixels, pass.channels = channels, pass.x = x.data(), pass.relu = relu;
      pass.residual = adds ? residual.data() : nullptr, pass.y = results[0].data();
      moments(pass, statistics[0].data(), statistics[1].data(), *kernels, *pool);
      normalize(pass, statistics[0].data(), statistics[1].data(), scale.data(), bias.data(),
                epsilon, *kernels, *pool);
      // The gradient of the residual takes the place of the output's, or that of x does.
      results[adds ? 2 : 1] = slope;
      pass.gradient = results[adds ? 2 : 1].data(), pass.x_gradient = results[1].data();
      pass.residual_gradient = adds ? results[2].data() : nullptr;
      pass.y = adds ? results[0].data() : nullptr;
      normalize_gradient(pass, statistics[0].data(), statistics[1].data(), scale.data(), bias.data(),
                         epsilon, statistics[2].data(), statistics[3].data(), *kernels, *pool);
      if (first.empty()) {
        first.assign(results, results + 3), first_sums.assign(statistics, statistics + 4);
        right &= same("mean", statistics[0], mean) && same("variance", statistics[1], variance);
        // Means of 100 leave four digits of a distance of 1.
        right &= same("normalised", results[0], y, std::max(kRounding<T>, 1e-4));
        std::fill(sums.begin(), sums.end(), 0), std::fill(products.begin(), products.end(), 0);
        for (Index i = 0; i < x.size(); i++) {
          const Index c = i % channels;
          by_residual[i] = !relu || results[0][i] > 0 ? slope[i] : 0;
          sums[c] += by_residual[i];
          products[c] += by_residual[i] * (x[i] - mean[c]) / std::sqrt(variance[c] + epsilon);
        }
        for (Index i = 0; i < x.size(); i++) {
          const Index c = i % channels;
          const double by = 1 / std::sqrt(variance[c] + epsilon);
          by_x[i] = scale[c] * by * (by_residual[i] - sums[c] / pixels -
                                     (x[i] - mean[c]) * by * products[c] / pixels);
        }
        right &= same("gradient of scale", statistics[2], products, 1e-4);
        right &= same("gradient of bias", statistics[3], sums);
        right &= same("gradient of x", results[1], by_x, std::max(kRounding<T>, 1e-4));
        if (adds) right &= same("gradient of the residual", results[2], by_residual);
      }
      bool equal = true;
      for (int i = 0; i < 4; i++) equal &= statistics[i] == first_sums[i];
      for (int i = 0; i < (adds ? 3 : 2); i++) equal &= results[i] == first[i];
      if (!equal) std::printf("normalisation: other bits on another pool\n");
      right &= equal;
    }
  }
  if (!right) std::printf("  %ld pixels of %ld channels\n", long(pixels), long(channels));
  return right;
}

template <typename T>
bool check_all(int i, Random& random, const Tables<T>& tables, const std::vector<Pool*>& pools) {
  bool right = check_convolution(draw_convolution(random), random, tables, pools);
  if (i < 2 && sizeof(T) == 4) right &= check_convolution(large_kernel(i + 1), random, tables, pools);
  right &= check_channels(draw_convolution(random), random, tables, pools);
  right &= check_pooling(random, tables, pools);
  return right & check_normalization(random, tables, pools);
}

}  // namespace

int main(int count, char** arguments) {
  const int cases = count > 1 ? std::atoi(arguments[1]) : 100;
  Random random(count > 2 ? std::atoi(arguments[2]) : 0);
  Tables<float> single;
  Tables<Bfloat16> half;
  for (int each = 0; each < kInstructions; each++)
    if (supports(each))
      single.push_back(&kernels_of<float>(each)), half.push_back(&kernels_of<Bfloat16>(each));
  bool right = true;
  for (int i = 0; i < cases; i++) {
    Caller caller;
    Late late;
    Threads one(1), three(3);
    const std::vector<Pool*> pools = {&caller, &late, &one, &three};
    right &= check_all(i, random, single, pools) & check_all(i, random, half, pools);
  }
  std::printf("%d cases, %zu forms\n", cases, single.size() + half.size());
  return right ? 0 : 1;
}
