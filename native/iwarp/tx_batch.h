// FPDUs that leave in one system call: headers and trailers in a scratch buffer, payload from registered
// memory where it lies. With CRC, payload is copied and summed in one pass: the memory belongs to a
// running VM, and the bytes that are sent must be the bytes that were summed. Protected, all of them are
// copied, and leave in records.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "iwarp/ddp.h"
#include "iwarp/record_batch.h"
#include "iwarp/region_table.h"
#include "memory/core_dumps.h"

namespace rdma_migrate::iwarp {

class TxBatch {
 public:
  TxBatch();

  // Empties it. What is appended from here on belongs to these regions, and all must outlive the last
  // send(). records: nullptr, or what seals it; there is no CRC then.
  void begin(const RegionTable& regions, IoSection& section, bool crc, RecordWriter* records);
  bool empty() const { return fpdus_ == 0; }
  // Of the FPDUs that were appended, headers and trailers included.
  size_t bytes() const { return scratch_used_ + payload_bytes_; }
  // Room for one more FPDU with this much payload.
  bool fits(size_t payload) const;
  struct Source {
    uint64_t address = 0;     // local
    uint32_t stag = 0;        // 0: not registered memory; at most kMaxInline bytes, which are copied
    unsigned right = 0;       // what the region must allow besides local reading
    uint64_t generation = 0;  // as of which stag was found good
  };
  // Unless kOk nothing was added. kUnreadable (where the payload is copied): fault_address().
  enum class Appended { kOk, kDeregistered, kUnreadable };
  Appended append(const DdpHeader& header, const Source& source, size_t size);

  // Of a protected stream: nothing follows.
  void append_end();

  enum class Outcome { kDone, kWouldBlock, kDeregistered, kFailed };
  // Sends what is left. kWouldBlock: the socket is full. kFailed: error_number(), and for EFAULT the address.
  Outcome send(int socket, uint64_t& bytes_sent);
  int error_number() const { return error_number_; }
  uint64_t fault_address() const;

  // 15 pages: with 16-byte headers one FPDU is not quite 64 KiB, and payload stays page aligned on both
  // sides.
  static constexpr size_t kMaxPayload = 61440;
  static constexpr size_t kMaxInline = 160;  // READ requests, TERMINATEs and control messages

 private:
  struct Use {
    Source source;
    size_t size;
  };
  void add_piece(const void* data, size_t size);
  Appended append_copy(const DdpHeader& header, const Source& source, size_t size);
  Appended copy_payload(const Source& source, size_t size);
  void seal();
  // The stags of the batch are still good, as of the generation that is then remembered.
  bool recheck();
  bool still_good(const Source& source, size_t size) const;
  Appended stage(const Source& source, size_t size, uint8_t* scratch, const uint8_t*& payload, uint32_t& crc);
  void advance(size_t sent);

  // Twice as many pieces fit into one system call (IOV_MAX is 1024).
  static constexpr size_t kMaxFpdus = 384;
  // With CRC the copies are read again by the system call: from the second cache, if they and what the kernel
  // makes of them fit there together. With 512 KiB they do not, and the sender takes a sixth more CPU time.
  // Without CRC 128 to 512 KiB are alike.
  static constexpr size_t kMaxBytes = 256 * 1024;
  static constexpr size_t kScratchPerFpdu = kMaxHeaderSize + kMaxInline + kMaxTrailerSize;

  const RegionTable* regions_ = nullptr;
  IoSection* section_ = nullptr;
  bool crc_ = false;
  memory::PrivateBytes scratch_;
  size_t scratch_used_ = 0;
  memory::PrivateBytes copies_;
  RecordWriter* records_ = nullptr;
  std::unique_ptr<RecordBatch> sealed_;  // made when it is first needed
  size_t payload_bytes_ = 0;
  size_t fpdus_ = 0;
  std::vector<iovec> iov_;
  size_t first_ = 0;  // the first piece that has not left whole
  std::vector<Use> uses_;
  uint64_t generation_ = 0;
  int error_number_ = 0;
  uint64_t unreadable_ = 0;  // where a copy failed
};

}  // namespace rdma_migrate::iwarp
