// What every provider asks of a work request before it takes it, and of the first one of a connection.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "fabric/types.h"

namespace rdma_migrate::fabric {

// MPA (RFC 5044 section 7.1.2) lets the initiator speak first, and in a migration the responder does. Linux'
// siw gives up a connection whose first message comes together with the MPA reply, so a responder's first
// message must not catch up with it.
inline constexpr std::chrono::milliseconds kFirstSendPause{200};

// A registered range as this side uses it.
struct LocalRange {
  uint64_t address = 0;
  uint64_t length = 0;
  unsigned access = 0;
};

// region: the one that lkey names, nullptr if there is none. rights: what the request needs besides local
// read. Throws Error INVALID_ARGUMENT. An empty buffer needs no region and must not come here.
inline void check_local_buffer(const LocalRange* region, uint32_t lkey, uint64_t address, uint32_t length,
                               unsigned rights) {
  if (region == nullptr) {
    throw Error("INVALID_ARGUMENT",
                "lkey " + std::to_string(lkey) + " belongs to no memory region of this domain");
  }
  if (address < region->address || length > region->length ||
      address - region->address > region->length - length) {
    throw Error("INVALID_ARGUMENT", "a buffer of " + std::to_string(length) + " bytes at " +
                                        std::to_string(address) + " leaves its memory region of " +
                                        std::to_string(region->length) + " bytes at " +
                                        std::to_string(region->address));
  }
  if ((region->access & rights) != rights)
    throw Error("INVALID_ARGUMENT", "a buffer for received data needs a region with local write access");
}

// The rights that a posted request needs of its local buffer. Throws Error INVALID_ARGUMENT: not for a send
// queue.
inline unsigned local_rights(Opcode opcode) {
  if (opcode == Opcode::kRecv)
    throw Error("INVALID_ARGUMENT", "a RECV posted to the send queue; use post_recv()");
  return opcode == Opcode::kRdmaRead ? unsigned{kAccessLocalWrite} : 0U;
}

}  // namespace rdma_migrate::fabric
