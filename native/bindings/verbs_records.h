// Work requests and completions as JavaScript writes and reads them: records of a fixed size in an array
// buffer, so that a batch crosses Node-API in one call. lib/verbs/records.ts has the same offsets.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rdma_migrate::bindings {

// In the byte order of the machine.
struct WorkRequestRecord {
  uint64_t wr_id;
  uint64_t addr;
  uint64_t remote_addr;
  uint32_t length;
  uint32_t lkey;
  uint32_t rkey;
  uint8_t opcode;  // fabric::Opcode
  uint8_t flags;   // kSignaled
  uint16_t reserved;

  static constexpr uint8_t kSignaled = 1;
};
static_assert(sizeof(WorkRequestRecord) == 40 && offsetof(WorkRequestRecord, opcode) == 36);

struct CompletionRecord {
  uint64_t wr_id;
  uint32_t byte_len;
  uint8_t opcode;  // fabric::Opcode
  uint8_t status;  // fabric::Status
  uint16_t reserved;
};
static_assert(sizeof(CompletionRecord) == 16 && offsetof(CompletionRecord, opcode) == 12);

}  // namespace rdma_migrate::bindings
