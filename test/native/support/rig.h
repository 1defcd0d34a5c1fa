// A pair with memory on both ends, for WRITE and READ.
#pragma once

#include <doctest/doctest.h>

#include "support/providers.h"
#include "support/requests.h"

namespace rdma_migrate::test {

inline PairOptions pair_options(const fabric::QueuePairOptions& options) {
  PairOptions result;
  result.active = result.passive = options;
  return result;
}

// A pair whose passive end has one large region for WRITE and READ, and a RECV posted.
struct Rig {
  Rig(fabric::Provider& provider, const fabric::QueuePairOptions& options, size_t size,
      unsigned access = kRemoteAll)
      : software(is_software(provider)), pair(provider, with_memory(options, size, access)) {
    silent = is_siw(*pair.passive);  // known once it has a peer
  }
  PairOptions with_memory(const fabric::QueuePairOptions& options, size_t size, unsigned access) {
    PairOptions result = pair_options(options);
    result.prepare = [this, size, access](Pair& made) {
      local = std::make_unique<Buffer>(made.active_domain, size);
      remote = std::make_unique<Buffer>(made.passive_domain, size, access, 0xee);
      inbox = std::make_unique<Buffer>(made.passive_domain, 64);
      made.passive->post_recv(recv_of(*inbox, 77));
    };
    return result;
  }
  fabric::SendWorkRequest write(size_t local_at, size_t remote_at, size_t size, uint64_t wr_id = 1) {
    return rdma_of(fabric::Opcode::kRdmaWrite, *local, local_at, remote->address(remote_at),
                   remote->region->rkey(), size, wr_id);
  }
  // Everything before it has been placed when the peer has it.
  void sync() {
    REQUIRE(pair.active->post_send(send_of(*local, 0, 99)));
    pair.passive_events.wait_recvs(1);
  }
  // The provider refuses the WRITE or READ: both ends close, each with a reason of its own.
  void expect_refused(const fabric::SendWorkRequest& request) {
    REQUIRE(pair.active->post_send(request));
    pair.passive_events.wait_closed();
    pair.active_events.wait_closed();
    const std::string here = pair.passive_events.reason_code();
    const std::string told = pair.active_events.reason_code();
    CAPTURE(here);
    CAPTURE(told);
    CHECK((here == "REMOTE_ACCESS_ERROR" || (silent && here == "")));
    CHECK((told == (software ? "TERMINATE_RECEIVED" : "REMOTE_ACCESS_ERROR") ||
           (silent && (told == "CONNECTION_LOST" || told == ""))));
  }

  ~Rig() {
    pair.close();
    // Before their domains.
    local.reset();
    remote.reset();
    inbox.reset();
  }

  const bool software;
  bool silent = false;
  std::unique_ptr<Buffer> local;
  std::unique_ptr<Buffer> remote;
  std::unique_ptr<Buffer> inbox;
  Pair pair;  // its making fills the members above
};

}  // namespace rdma_migrate::test
