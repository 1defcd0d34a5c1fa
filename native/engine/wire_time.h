// How long WRITEs were on their way, and how long a bandwidth limit kept the writer from sending while none
// was: what the link can do is bytes over the first, whatever the limit is. Guarded by the lock of its owner.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>

namespace rdma_migrate::engine {

class WireTime {
 public:
  using Clock = std::chrono::steady_clock;

  // Both in nanoseconds; they outlive this.
  WireTime(std::atomic<uint64_t>& busy, std::atomic<uint64_t>& held) : busy_(busy), held_(held) {}

  // `under_way`: WRITEs that have been posted and not completed, after each change.
  void update(uint64_t under_way) {
    if ((under_way != 0) == is_busy_) return;
    const auto now = Clock::now();
    if (is_busy_) add(busy_, now - changed_);
    is_busy_ = !is_busy_;
    changed_ = now;
  }
  // The limit has kept the writer waiting since then.
  void held(Clock::time_point since) {
    if (!is_busy_) add(held_, Clock::now() - std::max(since, changed_));
  }

 private:
  static void add(std::atomic<uint64_t>& sum, Clock::duration time) {
    const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
    if (ns > 0) sum.fetch_add(static_cast<uint64_t>(ns), std::memory_order_relaxed);
  }

  std::atomic<uint64_t>& busy_;
  std::atomic<uint64_t>& held_;
  Clock::time_point changed_{};
  bool is_busy_ = false;
};

}  // namespace rdma_migrate::engine
