// Whether a peer that owes something makes progress worth the name: whole messages, or enough bytes. A single
// byte now and then is none.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace rdma_migrate::fabric {

class ProgressWatch {
 public:
  using Clock = std::chrono::steady_clock;

  // Bytes a second. A peer below it would take twelve days for 1 GiB: nobody waits for that, and no link that
  // carries a migration is so slow. (QEMU's slowest: pages of 4 KiB, several a second.)
  static constexpr uint64_t kLeastRate = 1024;

  // window: the longest time without progress.
  explicit ProgressWatch(Clock::duration window)
      : window_(window),
        floor_(std::max<uint64_t>(
            1, static_cast<uint64_t>(std::chrono::duration<double>(window).count() * kLeastRate))) {}

  // Something is owed from now on; nothing happens if something was already.
  void begin(Clock::time_point now) {
    if (running_) return;
    running_ = true;
    restart(now);
  }
  // What was owed has come whole.
  void end() { running_ = false; }
  bool running() const { return running_; }
  void moved(uint64_t bytes) { bytes_ += bytes; }
  // True: for a whole window less has moved than kLeastRate asks for.
  bool stalled(Clock::time_point now) {
    if (!running_) return false;
    if (bytes_ >= floor_) restart(now);
    return now - since_ >= window_;
  }
  // When to look again.
  Clock::time_point next_look(Clock::time_point now) const {
    return now + std::max<Clock::duration>(window_ / 4, std::chrono::milliseconds(5));
  }

 private:
  void restart(Clock::time_point now) {
    since_ = now;
    bytes_ = 0;
  }

  const Clock::duration window_;
  const uint64_t floor_;
  bool running_ = false;
  Clock::time_point since_{};
  uint64_t bytes_ = 0;
};

}  // namespace rdma_migrate::fabric
