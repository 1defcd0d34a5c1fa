// The RECVs that are posted. They complete in order. Not synchronised.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "fabric/fabric.h"

namespace rdma_migrate::verbs {

class RecvRing {
 public:
  explicit RecvRing(uint32_t capacity) : capacity_(capacity == 0 ? 1 : capacity) {}

  bool full() const { return posted_.size() == capacity_; }
  // Nothing that the device has got is outstanding.
  bool device_idle() const { return given_ == 0; }
  void push(const fabric::RecvWorkRequest& request) { posted_.push_back(request); }
  // Those that the device has not got.
  size_t ungiven() const { return posted_.size() - given_; }
  const fabric::RecvWorkRequest& to_give(size_t offset = 0) const { return posted_[given_ + offset]; }
  void mark_given(size_t count = 1) { given_ += count; }

  void complete(fabric::Status status, uint32_t bytes, std::vector<fabric::Completion>& out) {
    if (given_ == 0) return;
    out.push_back({posted_.front().wr_id, fabric::Opcode::kRecv, status, bytes});
    posted_.pop_front();
    --given_;
  }
  void flush(std::vector<fabric::Completion>& out) {
    for (const fabric::RecvWorkRequest& request : posted_) {
      out.push_back({request.wr_id, fabric::Opcode::kRecv, fabric::Status::kFlushed, 0});
    }
    posted_.clear();
    given_ = 0;
  }

 private:
  const size_t capacity_;
  std::deque<fabric::RecvWorkRequest> posted_;
  size_t given_ = 0;
};

}  // namespace rdma_migrate::verbs
