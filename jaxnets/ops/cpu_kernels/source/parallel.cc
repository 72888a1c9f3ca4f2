#include "parallel.h"

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <new>
#include <thread>

namespace jaxnets {
namespace {

constexpr int kSpins = 2000;  // about the time that a piece lasts; sleeping and waking cost more

void pause() {
#ifdef JAXNETS_X86
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

// Outlives the call that began it: a task may come late, when there is nothing left to take.
struct Work {
  const Index count;
  void (*const piece)(void*, Index);
  void* const context;  // not touched after the last piece
  std::atomic<Index> next{0}, done{0};
  std::mutex mutex;
  std::condition_variable finished;

  Work(Index count, void (*piece)(void*, Index), void* context)
      : count(count), piece(piece), context(context) {}

  void take_pieces() {
    Index i;
    while ((i = next.fetch_add(1, std::memory_order_relaxed)) < count) {
      piece(context, i);
      if (done.fetch_add(1, std::memory_order_acq_rel) + 1 == count) {
        std::lock_guard<std::mutex> lock(mutex);
        finished.notify_all();
      }
    }
  }

  bool is_done() const { return done.load(std::memory_order_acquire) == count; }

  void wait() {
    for (int spin = 0; spin < kSpins; spin++) {
      if (is_done()) return;
      pause();
    }
    std::unique_lock<std::mutex> lock(mutex);
    finished.wait(lock, [this] { return is_done(); });
  }
};

}  // namespace

void for_each(Pool& pool, Index count, void (*piece)(void*, Index), void* context) {
  const Index threads = count > 1 ? pool.threads() : 1;
  if (threads <= 1) {
    for (Index i = 0; i < count; i++) piece(context, i);
    return;
  }
  const auto work = std::make_shared<Work>(count, piece, context);
  try {
    for (Index helper = 1; helper < threads && helper < count; helper++) {
      auto share = std::make_unique<std::shared_ptr<Work>>(work);
      pool.schedule(
          [](void* data) {
            const std::unique_ptr<std::shared_ptr<Work>> own(
                static_cast<std::shared_ptr<Work>*>(data));
            (*own)->take_pieces();
          },
          share.get());
      share.release();
    }
  } catch (const std::bad_alloc&) {
    // Those who came already use what lives on the caller's stack: go on with them.
  }
  work->take_pieces();
  work->wait();
}

}  // namespace jaxnets
