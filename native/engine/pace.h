// When the next WRITE may go, under a bandwidth limit. Guarded by the lock of its owner.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>

#include "engine/wire_time.h"
#include "engine/write_job.h"

namespace rdma_migrate::engine {

class Pace {
 public:
  using Clock = std::chrono::steady_clock;

  void set_limit(uint64_t bytes_per_second) { rate_ = bytes_per_second; }
  bool limited() const { return rate_ != 0; }
  // WRITEs shrink to what the limit allows in 10 ms, so that the rate is even.
  uint64_t longest_write() const {
    return limited() ? std::clamp(rate_ / kSlicesPerSecond, kShortest, kMaxWriteBytes) : kMaxWriteBytes;
  }
  // The limit's share is used up until next().
  bool must_wait(Clock::time_point now) {
    if (!limited() || next_ <= now) return false;
    if (!held_since_) held_since_ = now;
    return true;
  }
  Clock::time_point next() const { return next_; }
  // So much goes now.
  void spend(uint64_t bytes, Clock::time_point now, WireTime& wire_time) {
    if (held_since_) wire_time.held(*held_since_);
    held_since_.reset();
    if (!limited()) return;
    const double seconds = static_cast<double>(bytes) / static_cast<double>(rate_);
    next_ = std::max(next_, now) + std::chrono::nanoseconds(static_cast<int64_t>(1e9 * seconds));
  }

 private:
  static constexpr uint64_t kSlicesPerSecond = 100;
  static constexpr uint64_t kShortest = 16 * 1024;

  uint64_t rate_ = 0;
  Clock::time_point next_{};
  std::optional<Clock::time_point> held_since_;
};

}  // namespace rdma_migrate::engine
