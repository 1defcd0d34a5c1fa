// The send queue: a bounded ring between the threads that post and the sender. Work requests complete in the
// order in which they were posted; a slot is free again when its request, or a later signaled one, has been
// reported.
#pragma once

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "fabric/types.h"

namespace rdma_migrate::iwarp {

// Of a post to a queue pair that moves.
inline constexpr const char* kFrozen = "the queue pair is frozen: it moves to another process";

class SendQueue {
 public:
  explicit SendQueue(uint32_t capacity)
      : capacity_(capacity == 0 ? 1 : capacity), ring_(std::min(capacity_, kFirstSlots)) {}

  struct Posted {
    size_t count = 0;             // of the requests, in order; the rest found the queue full
    bool sender_is_idle = false;  // and must be woken
  };
  // Throws Error: CONNECTION_CLOSED after close(), INVALID_ARGUMENT while frozen.
  Posted post(std::span<const fabric::SendWorkRequest> requests);

  // Moves the next requests to out, oldest first, at most limit; out is cleared first. With none there, the
  // sender counts as idle from now on.
  void take(std::vector<fabric::SendWorkRequest>& out, size_t limit);
  // The last count of those that were taken are to be taken again.
  void give_back(size_t count);
  // The oldest taken requests, count of them, have left (a READ: its request has); of a resumable queue pair:
  // have been acknowledged.
  void mark_sent(size_t count);
  // The oldest READ that was not has been answered.
  void mark_read_done();
  // Appends the completions that are due, and frees their slots.
  void reap(std::vector<fabric::Completion>& out);

  // Posts are refused (INVALID_ARGUMENT) until they are let in again: the queue pair is moving.
  void freeze(bool frozen);
  // From the oldest one whose slot is taken: positions, and those requests.
  struct Saved {
    uint64_t done = 0, sent = 0, taken = 0;
    uint64_t reads_answered = 0;
    std::vector<fabric::SendWorkRequest> requests;
  };
  Saved save() const;
  // Of one to which nothing was posted. saved: no more than it has room for, and consistent.
  void restore(const Saved& saved);

  // No more posts. Requests that are queued stay.
  void close();
  bool closed() const;
  // Nothing is left to send or to be answered.
  bool drained() const;
  // close(), and every request that is not done is appended as flushed; the oldest as failed if
  // oldest_failed.
  void flush(std::vector<fabric::Completion>& out, bool oldest_failed);

 private:
  fabric::SendWorkRequest& slot(uint64_t position) { return ring_[position % ring_.size()]; }
  const fabric::SendWorkRequest& slot(uint64_t position) const { return ring_[position % ring_.size()]; }
  // Advances done_ over what has been sent and needs no answer any more.
  void advance_done();

  // Makes room for so many outstanding requests.
  void grow(size_t needed);

  // An idle queue pair should not hold memory for hundreds of requests that nobody has posted.
  static constexpr size_t kFirstSlots = 16;

  const size_t capacity_;
  mutable std::mutex mutex_;
  std::vector<fabric::SendWorkRequest> ring_;  // grows to capacity_
  // Positions only grow: retired_ <= done_ <= sent_ <= taken_ <= posted_.
  uint64_t retired_ = 0;  // reported, slot free
  uint64_t done_ = 0;
  uint64_t sent_ = 0;
  uint64_t taken_ = 0;
  uint64_t posted_ = 0;
  uint64_t reads_answered_ = 0;  // not yet passed by done_
  bool closed_ = false;
  bool frozen_ = false;
  bool sender_idle_ = false;
};

}  // namespace rdma_migrate::iwarp
