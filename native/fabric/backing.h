// The file under registered memory, for providers that store a peer's bytes themselves.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "error.h"

namespace rdma_migrate::fabric {

// A range that is one shared mapping of a file. What is stored in the file is seen in the mapping, and a
// whole page that is stored needs neither zeroing nor a page fault, which cost a first touch several times
// what copying it does. Processing threads call it, several at once, only while its region is registered and
// inside what guards that region's memory. Addresses are local.
class Backing {
 public:
  virtual ~Backing() = default;
  // Whether the page at address is known to hold nothing yet, so that storing in the file is the faster way.
  // Only a hint: either way is right for every page.
  virtual bool is_fresh(uint64_t address) const = 0;
  // Bytes are about to be placed in the mapping: makes that cheap for pages that the file has but the mapping
  // does not show yet.
  virtual void prepare(uint64_t address, uint64_t length) = 0;
  // Bytes have been placed in the mapping, or stored.
  virtual void touched(uint64_t address, uint64_t length) = 0;
  // Stores the pieces, one after the other, from address on. Gives the bytes stored; what follows them is to
  // be placed in the mapping. Throws Error: DISK_FULL, OUT_OF_MEMORY, IO_ERROR, PERMISSION_DENIED; any number
  // of bytes may have been stored then.
  virtual uint64_t store(uint64_t address, std::span<const iovec> pieces) = 0;
};

}  // namespace rdma_migrate::fabric
