// Short ways to post, and deterministic bytes.
#pragma once

#include "support/pair.h"

namespace rdma_migrate::test {

inline fabric::Bytes pattern(size_t size, uint64_t seed) {
  fabric::Bytes bytes(size);
  uint64_t state = seed * 2 + 1;
  for (uint8_t& byte : bytes) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    byte = static_cast<uint8_t>(state >> 56);
  }
  return bytes;
}

inline fabric::SendWorkRequest send_of(const Buffer& from, size_t size, uint64_t wr_id = 1) {
  fabric::SendWorkRequest request;
  request.wr_id = wr_id;
  request.opcode = fabric::Opcode::kSend;
  request.address = from.address();
  request.length = static_cast<uint32_t>(size);
  request.lkey = from.region->lkey();
  return request;
}

inline fabric::SendWorkRequest rdma_of(fabric::Opcode opcode, const Buffer& local, size_t local_at,
                                       uint64_t remote_address, uint32_t rkey, size_t size,
                                       uint64_t wr_id = 1) {
  fabric::SendWorkRequest request = send_of(local, size, wr_id);
  request.opcode = opcode;
  request.address = local.address(local_at);
  request.remote_address = remote_address;
  request.rkey = rkey;
  return request;
}

inline fabric::RecvWorkRequest recv_of(const Buffer& into, uint64_t wr_id = 1) {
  return {wr_id, into.address(), static_cast<uint32_t>(into.bytes.size()), into.region->lkey()};
}

constexpr unsigned kRemoteAll =
    fabric::kAccessLocalWrite | fabric::kAccessRemoteWrite | fabric::kAccessRemoteRead;

}  // namespace rdma_migrate::test
