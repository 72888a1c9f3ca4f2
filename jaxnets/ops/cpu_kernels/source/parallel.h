// Work in pieces on a pool of threads that belongs to somebody else.
#pragma once

#include "plan.h"

namespace jaxnets {

// XLA's pool, or a test's.
class Pool {
 public:
  virtual ~Pool() = default;
  virtual Index threads() = 0;
  // Calls task(data) once, at some time, on any thread: perhaps on this one, before it returns.
  virtual void schedule(void (*task)(void*), void* data) = 0;
};

// Calls piece(context, i) for every i < count, on this thread and on what the pool lends, and
// returns when all have returned. The caller takes pieces like everybody else and waits for those
// alone that somebody has begun: a pool whose threads are all busy, or wait here themselves, delays
// nobody and cannot deadlock.
void for_each(Pool& pool, Index count, void (*piece)(void* context, Index i), void* context);

template <typename Piece>
void for_each(Pool& pool, Index count, Piece piece) {
  for_each(pool, count, [](void* context, Index i) { (*static_cast<Piece*>(context))(i); }, &piece);
}

}  // namespace jaxnets
