// The kernels against plain loops in double precision, on pools of threads that behave well and
// badly. Built with sanitizers by test_stress.py: stress CASES [SEED]. Says what differs and exits
// with 1.
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
#include "normalization.h"
#include "pooling.h"

using namespace jaxnets;

namespace {

constexpr double kTolerance = 1e-5;

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

// Floats that end where their memory ends, at an address that is no multiple of a vector.
class Floats {
 public:
  explicit Floats(Index count) : memory_(count + 1, std::numeric_limits<float>::quiet_NaN()) {}
  float* data() { return memory_.data() + 1; }
  const float* data() const { return memory_.data() + 1; }
  Index size() const { return memory_.size() - 1; }
  float& operator[](Index i) { return memory_[i + 1]; }
  float operator[](Index i) const { return memory_[i + 1]; }
  bool operator==(const Floats& other) const {
    return size() == other.size() && std::memcmp(data(), other.data(), size() * sizeof(float)) == 0;
  }

 private:
  std::vector<float> memory_;
};

using Random = std::mt19937;

Index draw(Random& random, Index least, Index most) {
  return std::uniform_int_distribution<Index>(least, most)(random);
}

Index draw_channels(Random& random) {
  const Index some[] = {1, 2, 3, 6, 7, 15, 16, 17, 31, 48, 64, 65, 100};
  return some[draw(random, 0, 12)];
}

Floats draw_floats(Random& random, Index count) {
  std::normal_distribution<float> normal;
  Floats floats(count);
  for (Index i = 0; i < count; i++) floats[i] = normal(random);
  return floats;
}

Convolution draw_convolution(Random& random) {
  Convolution s;
  s.images = draw(random, 1, 7), s.channels = draw_channels(random),
  s.out_channels = draw_channels(random);
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
            for (Index in = 0; in < s.channels; in++) {
              const Index kernel = ((r * s.kernel_columns + c) * s.channels + in) * s.out_channels;
              for (Index out = 0; out < s.out_channels; out++) visit(x + in, kernel + out, y + out);
            }
          }
}

bool same(const char* what, const Floats& ours, const std::vector<double>& exact) {
  double difference = 0, largest = 0;
  for (Index i = 0; i < ours.size(); i++) {
    difference = std::max(difference, std::abs(ours[i] - exact[i]));
    largest = std::max(largest, std::abs(exact[i]));
    if (std::isnan(ours[i])) difference = std::numeric_limits<double>::infinity();
  }
  if (difference <= kTolerance * largest) return true;
  std::printf("%s: %g of the largest value %g\n", what, difference / largest, largest);
  return false;
}

std::string describe(const Convolution& s) {
  char text[200];
  std::snprintf(text, sizeof text,
                "x %ldx%ldx%ldx%ld kernel %ldx%ld y %ldx%ldx%ld strides %ld %ld pads %ld %ld",
                long(s.images), long(s.rows), long(s.columns), long(s.channels),
                long(s.kernel_rows), long(s.kernel_columns), long(s.out_rows), long(s.out_columns),
                long(s.out_channels), long(s.stride_down), long(s.stride_across), long(s.pad_top),
                long(s.pad_left));
  return text;
}

// All three passes with every table of tiles on every pool: right, and the same bits on each pool.
bool check_convolution(const Convolution& s, Random& random,
                       const std::vector<const Tiles*>& tables, const std::vector<Pool*>& pools) {
  const Floats x = draw_floats(random, s.images * s.rows * s.columns * s.channels);
  const Floats kernel =
      draw_floats(random, s.kernel_rows * s.kernel_columns * s.channels * s.out_channels);
  const Floats slope = draw_floats(random, s.images * s.out_rows * s.out_columns * s.out_channels);
  std::vector<double> y(slope.size()), by_x(x.size()), by_kernel(kernel.size());
  for_each_product(s, [&](Index at_x, Index at_kernel, Index at_y) {
    y[at_y] += double(x[at_x]) * kernel[at_kernel];
    by_x[at_x] += double(slope[at_y]) * kernel[at_kernel];
    by_kernel[at_kernel] += double(slope[at_y]) * x[at_x];
  });
  bool right = true;
  for (const Tiles* tiles : tables) {
    std::vector<Floats> first;
    for (Pool* pool : pools) {
      Floats results[] = {Floats(y.size()), Floats(by_x.size()), Floats(by_kernel.size())};
      forward(s, x.data(), kernel.data(), results[0].data(), *tiles, *pool);
      input_gradient(s, kernel.data(), slope.data(), results[1].data(), *tiles, *pool);
      kernel_gradient(s, x.data(), slope.data(), results[2].data(), *tiles, *pool);
      if (first.empty()) {
        first.assign(results, results + 3);
        right &= same("forward", results[0], y);
        right &= same("input gradient", results[1], by_x);
        right &= same("kernel gradient", results[2], by_kernel);
      }
      for (int i = 0; i < 3; i++)
        if (!(results[i] == first[i])) {
          std::printf("pass %d: other bits on another pool\n", i);
          right = false;
        }
    }
  }
  if (!right) std::printf("  %s\n", describe(s).c_str());
  return right;
}

// Values full of ties and NaN: the first of the largest is chosen, a NaN over what came before it.
bool check_pooling(Random& random, const std::vector<const Tiles*>& tables,
                   const std::vector<Pool*>& pools) {
  Pooling p = {};
  p.images = draw(random, 1, 4), p.channels = draw_channels(random);
  p.window_down = draw(random, 1, 4), p.window_across = draw(random, 1, 4);
  p.stride_down = draw(random, 1, 3), p.stride_across = draw(random, 1, 3);
  p.pad_top = draw(random, 0, p.window_down - 1), p.pad_left = draw(random, 0, p.window_across - 1);
  p.rows = draw(random, p.window_down, 12), p.columns = draw(random, p.window_across, 12);
  p.pooled_rows = (p.rows + p.pad_top - p.window_down) / p.stride_down + 1;
  p.pooled_columns = (p.columns + p.pad_left - p.window_across) / p.stride_across + 1;
  Floats x(p.images * p.rows * p.columns * p.channels);
  for (Index i = 0; i < x.size(); i++)
    x[i] = draw(random, 0, 9) ? float(draw(random, 0, 2)) : std::numeric_limits<float>::quiet_NaN();
  const Floats slope =
      draw_floats(random, p.images * p.pooled_rows * p.pooled_columns * p.channels);
  Floats y(slope.size());
  std::vector<double> by_x(x.size());
  for (Index at = 0; at < y.size(); at++) {
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
  for (const Tiles* tiles : tables)
    for (Pool* threads : pools) {
      Floats our_y(y.size()), our_gradient(x.size());
      std::vector<int8_t> chosen(y.size());
      p.y = our_y.data(), p.chosen = chosen.data(), p.x_gradient = our_gradient.data();
      pool(p, *tiles, *threads);
      pool_gradient(p, *tiles, *threads);
      for (Index i = 0; i < y.size(); i++)
        right &= our_y[i] == y[i] || (std::isnan(our_y[i]) && std::isnan(y[i]));
      if (!right) std::printf("pooling\n");
      right &= same("pooling's gradient", our_gradient, by_x);
    }
  return right;
}

// Values far from zero: what cancels in the mean of squares less the square of the mean must not.
bool check_moments(Random& random, const std::vector<const Tiles*>& tables,
                   const std::vector<Pool*>& pools) {
  // Many pixels in one case of four: from 65,536 values on they are summed in groups.
  const Index most = draw(random, 0, 3) ? 300 : 5000;
  const Index channels = draw_channels(random), pixels = draw(random, 1, most);
  Floats x = draw_floats(random, pixels * channels);
  for (Index i = 0; i < x.size(); i++) x[i] += 100;
  const Floats slope = draw_floats(random, pixels * channels);
  std::vector<double> mean(channels), variance(channels), sums(channels), products(channels);
  for (Index i = 0; i < x.size(); i++) mean[i % channels] += double(x[i]) / pixels;
  Floats given(channels);
  for (Index c = 0; c < channels; c++) given[c] = float(mean[c]);
  for (Index i = 0; i < x.size(); i++) {
    const Index c = i % channels;
    variance[c] += (x[i] - mean[c]) * (x[i] - mean[c]) / pixels;
    sums[c] += slope[i], products[c] += double(slope[i]) * (double(x[i]) - given[c]);
  }
  bool right = true;
  for (const Tiles* tiles : tables) {
    std::vector<Floats> first;
    for (Pool* pool : pools) {
      Floats results[] = {Floats(channels), Floats(channels), Floats(channels), Floats(channels)};
      moments(x.data(), pixels, channels, results[0].data(), results[1].data(), *tiles, *pool);
      moment_products(x.data(), slope.data(), given.data(), pixels, channels, results[2].data(),
                      results[3].data(), *tiles, *pool);
      if (first.empty()) {
        first.assign(results, results + 4);
        right &= same("mean", results[0], mean) && same("variance", results[1], variance);
        right &= same("sums", results[2], sums) && same("products", results[3], products);
      }
      for (int i = 0; i < 4; i++)
        if (!(results[i] == first[i])) {
          std::printf("moments %d: other bits on another pool\n", i);
          right = false;
        }
    }
  }
  if (!right) std::printf("  %ld pixels of %ld channels\n", long(pixels), long(channels));
  return right;
}

}  // namespace

int main(int count, char** arguments) {
  const int cases = count > 1 ? std::atoi(arguments[1]) : 100;
  Random random(count > 2 ? std::atoi(arguments[2]) : 0);
  std::vector<const Tiles*> tables = {&kPortable};
#ifdef JAXNETS_X86
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) tables.push_back(&kAvx2);
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    tables.push_back(&kAvx512);
#endif
  bool right = true;
  for (int i = 0; i < cases; i++) {
    Caller caller;
    Late late;
    Threads one(1), three(3);
    const std::vector<Pool*> pools = {&caller, &late, &one, &three};
    right &= check_convolution(draw_convolution(random), random, tables, pools);
    if (i < 2) right &= check_convolution(large_kernel(i + 1), random, tables, pools);
    right &= check_pooling(random, tables, pools);
    right &= check_moments(random, tables, pools);
  }
  std::printf("%d cases, %zu forms\n", cases, tables.size());
  return right ? 0 : 1;
}
