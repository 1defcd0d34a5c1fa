// The receive queue: bounded, with short critical sections.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "fabric/types.h"
#include "iwarp/send_queue.h"

namespace rdma_migrate::iwarp {

class RecvQueue {
 public:
  explicit RecvQueue(uint32_t capacity) : capacity_(capacity == 0 ? 1 : capacity) {}

  // How many of the requests there was room for. Throws Error: CONNECTION_CLOSED after flush().
  size_t post(std::span<const fabric::RecvWorkRequest> requests) {
    std::lock_guard lock(mutex_);
    if (closed_)
      throw Error("CONNECTION_CLOSED", "the connection has ended; nothing can be received any more");
    if (frozen_) throw Error("INVALID_ARGUMENT", kFrozen);
    const size_t count = std::min(requests.size(), capacity_ - queue_.size());
    queue_.insert(queue_.end(), requests.begin(), requests.begin() + static_cast<ptrdiff_t>(count));
    return count;
  }
  // The oldest one; it stays in the queue until pop(), so that a message cut short is flushed like the
  // others.
  std::optional<fabric::RecvWorkRequest> front() const {
    std::lock_guard lock(mutex_);
    if (queue_.empty()) return std::nullopt;
    return queue_.front();
  }
  void pop() {
    std::lock_guard lock(mutex_);
    queue_.pop_front();
  }
  // As SendQueue's.
  void freeze(bool frozen) {
    std::lock_guard lock(mutex_);
    frozen_ = frozen;
  }
  std::deque<fabric::RecvWorkRequest> save() const {
    std::lock_guard lock(mutex_);
    return queue_;
  }
  void restore(std::deque<fabric::RecvWorkRequest> saved) {
    std::lock_guard lock(mutex_);
    queue_ = std::move(saved);
  }
  // No more posts; what is there is appended as flushed.
  void flush(std::vector<fabric::Completion>& out) {
    std::lock_guard lock(mutex_);
    closed_ = true;
    for (const fabric::RecvWorkRequest& request : queue_) {
      out.push_back({request.wr_id, fabric::Opcode::kRecv, fabric::Status::kFlushed, 0});
    }
    queue_.clear();
  }

 private:
  const size_t capacity_;
  mutable std::mutex mutex_;
  std::deque<fabric::RecvWorkRequest> queue_;
  bool closed_ = false;
  bool frozen_ = false;
};

}  // namespace rdma_migrate::iwarp
