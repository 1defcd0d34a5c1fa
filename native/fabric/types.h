// Work requests, completions and rights, in libibverbs' words. Every provider and every user of one shares
// them; nothing here knows a QEMU message.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "error.h"

namespace rdma_migrate::fabric {

using Bytes = std::vector<uint8_t>;

// Access rights of a memory region (ibv_access_flags). Local read is always allowed.
enum Access : unsigned {
  kAccessLocalWrite = 1,
  kAccessRemoteWrite = 2,
  kAccessRemoteRead = 4,
};
inline constexpr unsigned kRemoteAccess = kAccessRemoteWrite | kAccessRemoteRead;

enum class Opcode : uint8_t { kSend, kRdmaWrite, kRdmaRead, kRecv };

// kFlushed: the queue pair ended before the work request was carried out (IBV_WC_WR_FLUSH_ERR).
enum class Status : uint8_t { kSuccess, kFlushed, kError };

struct SendWorkRequest {
  uint64_t wr_id = 0;
  Opcode opcode = Opcode::kSend;
  uint64_t address = 0;  // local buffer: source of SEND and WRITE, sink of READ
  uint32_t length = 0;   // bytes; 0 is allowed
  uint32_t lkey = 0;     // of a region that covers the local buffer
  uint64_t remote_address = 0;
  uint32_t rkey = 0;
  bool signaled = true;  // false: a completion is reported only if it fails
};

struct RecvWorkRequest {
  uint64_t wr_id = 0;
  uint64_t address = 0;
  uint32_t length = 0;
  uint32_t lkey = 0;
};

// A request of a batch that is wrong. Those before it have been posted.
class BadWorkRequest : public Error {
 public:
  BadWorkRequest(const Error& reason, size_t posted) : Error(reason), posted_(posted) {}
  size_t posted() const noexcept { return posted_; }

 private:
  size_t posted_;
};

struct Completion {
  uint64_t wr_id = 0;
  Opcode opcode = Opcode::kSend;
  Status status = Status::kSuccess;
  uint32_t byte_len = 0;  // RECV and READ: bytes received
};

struct Endpoint {
  std::string host;  // IPv4, IPv6 without brackets, or a name
  uint16_t port = 0;
};

}  // namespace rdma_migrate::fabric
