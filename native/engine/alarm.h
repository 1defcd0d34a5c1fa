// Rings a queue pair at a time: its on_notify comes then. For what has to wait on a processing thread, which
// must not. One thread for all of the process, and none while there is no alarm.
#pragma once

#include <chrono>
#include <optional>

#include "fabric/fabric.h"

namespace rdma_migrate::engine {

class Alarm {
 public:
  using Clock = std::chrono::steady_clock;

  // Throws Error: RESOURCE_LIMIT (no thread can be had).
  explicit Alarm(fabric::QueuePair& queue_pair);
  // When it has returned, the queue pair is rung no more.
  ~Alarm();
  Alarm(const Alarm&) = delete;
  Alarm& operator=(const Alarm&) = delete;

  // Rings once, by then at the latest: an earlier time that was set before stays. Any thread.
  void ring_by(Clock::time_point when);

 private:
  friend class AlarmThread;
  fabric::QueuePair& queue_pair_;
  std::optional<Clock::time_point> due_;  // AlarmThread's
};

}  // namespace rdma_migrate::engine
