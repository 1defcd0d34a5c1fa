// The receive queue and the two lists that carry READs between the I/O threads. All bounded, all short
// critical sections.
#pragma once

#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <vector>

#include "fabric/fabric.h"

namespace rdma_migrate::iwarp {

class RecvQueue {
 public:
  explicit RecvQueue(uint32_t capacity) : capacity_(capacity == 0 ? 1 : capacity) {}

  // False: full. Throws Error: CONNECTION_CLOSED after flush().
  bool post(const fabric::RecvWorkRequest& request) {
    std::lock_guard lock(mutex_);
    if (closed_)
      throw Error("CONNECTION_CLOSED", "the connection has ended; nothing can be received any more");
    if (queue_.size() == capacity_) return false;
    queue_.push_back(request);
    return true;
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
};

// A bounded list: READs of ours that wait for their response, or READs of the peer's that wait for ours.
template <typename T>
class BoundedList {
 public:
  void set_limit(size_t limit) {
    std::lock_guard lock(mutex_);
    limit_ = limit;
  }
  bool push(const T& item) {
    std::lock_guard lock(mutex_);
    if (items_.size() >= limit_) return false;
    items_.push_back(item);
    return true;
  }
  std::optional<T> front() const {
    std::lock_guard lock(mutex_);
    if (items_.empty()) return std::nullopt;
    return items_.front();
  }
  void pop() {
    std::lock_guard lock(mutex_);
    items_.pop_front();
  }
  bool empty() const {
    std::lock_guard lock(mutex_);
    return items_.empty();
  }
  bool full() const {
    std::lock_guard lock(mutex_);
    return items_.size() >= limit_;
  }

 private:
  mutable std::mutex mutex_;
  std::deque<T> items_;
  size_t limit_ = 0;
};

}  // namespace rdma_migrate::iwarp
