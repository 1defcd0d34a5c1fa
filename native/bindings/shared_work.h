// Work of many like parts on several threads of a lane of the pool.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <utility>

#include "error.h"
#include "pool.h"

namespace rdma_migrate::bindings {

// Calls part(0) to part(count - 1), each once, from this thread and others; returns when all have returned.
// part throws nothing. From a thread of the lane: helpers that come too late find nothing to do and are not
// waited for.
inline void share_work(WorkLane lane, size_t count, std::function<void(size_t)> part) {
  struct Shared {
    Shared(std::function<void(size_t)> each, size_t of) : part(std::move(each)), count(of) {}
    const std::function<void(size_t)> part;
    const size_t count;
    std::atomic<size_t> next{0}, done{0};
    void run() {
      for (size_t at = next.fetch_add(1); at < count; at = next.fetch_add(1)) {
        part(at);
        done.fetch_add(1, std::memory_order_release);
        done.notify_all();
      }
    }
  };
  constexpr size_t kMostThreads = 8;
  const auto shared = std::make_shared<Shared>(std::move(part), count);
  try {
    for (size_t threads = 1; threads < std::min({count, kMostThreads, Pool::most_threads(lane)}); ++threads)
      Pool::shared().run(lane, [shared] { shared->run(); });
  } catch (...) {
    // No thread, or no memory for one: those that there are do it.
  }
  shared->run();
  for (size_t done = shared->done.load(std::memory_order_acquire); done < count;
       done = shared->done.load(std::memory_order_acquire))
    shared->done.wait(done, std::memory_order_acquire);
}

}  // namespace rdma_migrate::bindings
