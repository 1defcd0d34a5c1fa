#include "pool.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "pinned_module.h"
#include "thread.h"

namespace rdma_migrate {

struct Pool::Lane {
  Lane(size_t most_threads, unsigned idle) : most(most_threads), idle_ms(idle) {}
  ~Lane() {
    std::unique_lock lock(mutex);
    ending = true;
    work.clear();
    changed.notify_all();
    changed.wait(lock, [this] { return threads == 0; });
  }

  void run(std::function<void()> item) {
    std::lock_guard lock(mutex);
    work.push_back(std::move(item));
    if (idle >= work.size() || threads == most) {
      changed.notify_one();
      return;
    }
    try {
      pin_module();
      start_thread([this] { serve(); }).detach();
      ++threads;
    } catch (const Error&) {
      if (threads > 0) return;  // it has its turn
      work.pop_back();
      throw;
    }
  }

  void serve() {
    std::unique_lock lock(mutex);
    const auto wanted = [this] { return ending || !work.empty(); };
    for (;;) {
      ++idle;
      const bool woken = changed.wait_for(lock, std::chrono::milliseconds(idle_ms), wanted);
      --idle;
      if (!woken || work.empty()) break;
      auto item = std::move(work.front());
      work.pop_front();
      lock.unlock();
      item();
      item = nullptr;  // what it holds goes without the lock
      lock.lock();
    }
    --threads;
    // Under the lock: nothing of this is touched after it.
    if (ending) changed.notify_all();
  }

  const size_t most;
  const unsigned idle_ms;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void()>> work;
  size_t threads = 0;
  size_t idle = 0;  // threads that wait for work
  bool ending = false;
};

Pool& Pool::shared() {
  static auto* const pool = new Pool;
  return *pool;
}

Pool::Pool(unsigned idle_ms) {
  for (size_t lane = 0; lane < kWorkLanes; ++lane)
    lanes_[lane] = std::make_unique<Lane>(most_threads(static_cast<WorkLane>(lane)), idle_ms);
}

Pool::~Pool() = default;

void Pool::run(WorkLane lane, std::function<void()> work) {
  lanes_[static_cast<size_t>(lane)]->run(std::move(work));
}

size_t Pool::threads(WorkLane lane) const {
  Lane& of = *lanes_[static_cast<size_t>(lane)];
  std::lock_guard lock(of.mutex);
  return of.threads;
}

// Bulk work waits for disks as much as it computes: a few more than processors do no harm.
size_t Pool::most_threads(WorkLane lane) {
  return lane == WorkLane::kBulk ? std::clamp<size_t>(std::thread::hardware_concurrency(), 4, 16) : 4;
}

}  // namespace rdma_migrate
