// Memory on both ends of a pair, and WRITEs from one to the other.
#pragma once

#include "support/requests.h"

namespace rdma_migrate::test {

struct Traffic {
  explicit Traffic(size_t size) : size_(size) {}
  std::function<void(Pair&)> prepare() {
    return [this](Pair& pair) {
      make(pair.active_domain, pair.passive_domain);
      pair.passive->post_recv(recv_of(*inbox));
    };
  }
  void make(const DomainPointer& active, const DomainPointer& passive) {
    source = std::make_unique<Buffer>(active, size_);
    target = std::make_unique<Buffer>(passive, size_, kRemoteAll);
    inbox = std::make_unique<Buffer>(passive, 64);
  }
  fabric::SendWorkRequest write(uint64_t wr_id) {
    return rdma_of(fabric::Opcode::kRdmaWrite, *source, 0, target->address(), target->region->rkey(), size_,
                   wr_id);
  }

  const size_t size_;
  std::unique_ptr<Buffer> source;
  std::unique_ptr<Buffer> target;
  std::unique_ptr<Buffer> inbox;
};

}  // namespace rdma_migrate::test
