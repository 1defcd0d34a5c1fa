// Stores bytes into a mapping so that a full disk is an error and not a signal.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <span>

#include "memory/mapping.h"
#include "memory/range.h"

namespace rdma_migrate::memory {

// Gathers neighbouring stores and carries them out together. The bytes given to data() must stay
// unchanged until flush(). The mapping must outlive it. Errors: DISK_FULL, OUT_OF_MEMORY, IO_ERROR.
class Store {
 public:
  explicit Store(const Mapping& mapping) : mapping_(&mapping) {}

  // The range must lie within the mapping (checked by the caller with Mapping::check_writable).
  void data(uint64_t offset, std::span<const uint8_t> bytes);
  void zeros(const Range& range);
  void flush();

 private:
  static constexpr int kMaxPieces = 256;

  const Mapping* mapping_;
  uint64_t offset_ = 0;  // of the first piece
  uint64_t length_ = 0;  // of all pieces
  int pieces_ = 0;
  std::array<struct iovec, kMaxPieces> vector_;
};

// Stores the pieces, one after the other, from offset on, and sees to it that the file has not been cut: a
// store behind its end would make it as long as before, with a hole where pages were. For that the last page
// of a file that others can cut is never stored: gives the bytes stored, and what follows belongs into the
// mapping. 0 too where the file cannot be opened any more. The range must lie within the mapping, and
// stores_through_fd(). Errors: DISK_FULL, OUT_OF_MEMORY, IO_ERROR, PERMISSION_DENIED.
uint64_t store_pieces(const Mapping& mapping, uint64_t offset, std::span<const iovec> pieces);

}  // namespace rdma_migrate::memory
