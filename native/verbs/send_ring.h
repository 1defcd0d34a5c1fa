// Which send requests are outstanding, in the order in which they were posted: what may be posted, what a
// completion says about the ones before it, and what is flushed at the end. Not synchronised.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "fabric/fabric.h"

namespace rdma_migrate::verbs {

class SendRing {
 public:
  explicit SendRing(uint32_t capacity) : ring_(capacity == 0 ? 1 : capacity) {}

  bool full() const { return posted_ - retired_ == ring_.size(); }
  void push(const fabric::SendWorkRequest& request) {
    slot(posted_++) = {request, std::nullopt};
    signaled_ += request.signaled ? 1 : 0;
  }

  // Requests that the device has not got: from given() to the end.
  uint64_t ungiven() const { return posted_ - given_; }
  uint64_t given() const { return given_; }
  const fabric::SendWorkRequest& to_give(uint64_t offset = 0) { return slot(given_ + offset).request; }
  void mark_given(uint64_t count = 1) { given_ += count; }

  // Of a request that is outstanding.
  const fabric::SendWorkRequest* find(uint64_t position) const {
    return position < done_ || position >= given_ ? nullptr : &ring_[position % ring_.size()].request;
  }

  // The device has completed the request at position. Unsignaled ones before it have succeeded; signaled ones
  // are waited for, as siw completes a SEND before the READ that was posted before it. Appends the
  // completions that are due, in order, and returns the payload bytes that left. Positions that are not
  // outstanding are ignored.
  uint64_t complete(uint64_t position, fabric::Status status, std::vector<fabric::Completion>& out) {
    if (position < done_ || position >= given_) return 0;
    slot(position).status = status;
    seen_ = std::max(seen_, position + 1);
    uint64_t bytes = 0;
    for (; done_ < seen_; ++done_) {
      const Slot& oldest = slot(done_);
      if (!oldest.status && oldest.request.signaled) break;
      bytes += report(oldest.request, oldest.status.value_or(fabric::Status::kSuccess), out);
    }
    return bytes;
  }
  // A request of the provider's own after position has completed.
  uint64_t complete_before(uint64_t position, std::vector<fabric::Completion>& out) {
    return position == 0 || find(position - 1) == nullptr || find(position - 1)->signaled
               ? 0
               : complete(position - 1, fabric::Status::kSuccess, out);
  }

  // Everything that is left is appended: what has completed after a request that has not as it is, the rest
  // as flushed, the oldest as failed if oldest_failed.
  void flush(std::vector<fabric::Completion>& out, bool oldest_failed) {
    for (; done_ < posted_; ++done_) {
      const auto otherwise = oldest_failed ? fabric::Status::kError : fabric::Status::kFlushed;
      report(slot(done_).request, slot(done_).status.value_or(otherwise), out);
      oldest_failed = false;
    }
    retired_ = given_ = done_;
  }

  // Nothing is outstanding.
  bool idle() const { return done_ == posted_; }
  // Nothing that the device has got is outstanding.
  bool device_idle() const { return done_ == given_; }
  // A completion is due.
  bool expects_completion() const { return signaled_ != 0; }

 private:
  struct Slot {
    fabric::SendWorkRequest request;
    std::optional<fabric::Status> status;  // what the device has said
  };

  Slot& slot(uint64_t position) { return ring_[position % ring_.size()]; }
  // The request at done_.
  uint64_t report(const fabric::SendWorkRequest& request, fabric::Status status,
                  std::vector<fabric::Completion>& out) {
    const bool ok = status == fabric::Status::kSuccess;
    const bool read = request.opcode == fabric::Opcode::kRdmaRead;
    signaled_ -= request.signaled ? 1 : 0;
    if (request.signaled || !ok) {
      out.push_back({request.wr_id, request.opcode, status, ok && read ? request.length : 0});
      retired_ = done_ + 1;
    }
    return ok && !read ? request.length : 0;
  }

  std::vector<Slot> ring_;
  // Positions only grow: retired_ <= done_ <= given_ <= posted_.
  uint64_t retired_ = 0;  // reported, slot free
  uint64_t done_ = 0;
  uint64_t given_ = 0;  // to the device
  uint64_t posted_ = 0;
  uint64_t seen_ = 0;      // after the newest that the device has completed
  uint64_t signaled_ = 0;  // outstanding
};

}  // namespace rdma_migrate::verbs
