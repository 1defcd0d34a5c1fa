// The RECVs that are posted. They complete in order. Not synchronised.
#pragma once

#include <cstdint>
#include <vector>

#include "fabric/fabric.h"

namespace rdma_migrate::verbs {

class RecvRing {
 public:
  explicit RecvRing(uint32_t capacity) : ring_(capacity == 0 ? 1 : capacity) {}

  bool full() const { return posted_ - done_ == ring_.size(); }
  // Nothing that the device has got is outstanding.
  bool device_idle() const { return done_ == given_; }
  void push(const fabric::RecvWorkRequest& request) { slot(posted_++) = request; }
  // Those that the device has not got.
  uint64_t ungiven() const { return posted_ - given_; }
  const fabric::RecvWorkRequest& to_give(uint64_t offset = 0) { return slot(given_ + offset); }
  void mark_given(uint64_t count = 1) { given_ += count; }

  void complete(fabric::Status status, uint32_t bytes, std::vector<fabric::Completion>& out) {
    if (device_idle()) return;
    out.push_back({slot(done_++).wr_id, fabric::Opcode::kRecv, status, bytes});
  }
  void flush(std::vector<fabric::Completion>& out) {
    while (done_ < posted_) {
      out.push_back({slot(done_++).wr_id, fabric::Opcode::kRecv, fabric::Status::kFlushed, 0});
    }
    given_ = done_;
  }

 private:
  fabric::RecvWorkRequest& slot(uint64_t position) { return ring_[position % ring_.size()]; }

  std::vector<fabric::RecvWorkRequest> ring_;
  // Positions only grow: done_ <= given_ <= posted_.
  uint64_t done_ = 0;
  uint64_t given_ = 0;  // to the device
  uint64_t posted_ = 0;
};

}  // namespace rdma_migrate::verbs
