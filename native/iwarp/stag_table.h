// The registered memory of one connection. An STag is lkey and rkey in one; it is drawn at random, so that
// none can be guessed from another.
//
// Who touches registered memory does it inside an IoSection and only after a look at generation(): remove()
// changes the generation first and then waits for the sections that are open. So the two I/O threads need no
// lock for each segment.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "fabric/fabric.h"

namespace rdma_migrate::iwarp {

struct Region {
  uint32_t stag = 0;
  uint64_t address = 0;
  uint64_t length = 0;
  unsigned access = 0;

  // Whether offset..offset+size lies inside; nothing of it can wrap.
  bool covers(uint64_t offset, uint64_t size) const {
    return offset >= address && size <= length && offset - address <= length - size;
  }
};

// One I/O thread's use of registered memory. Open only around system calls that do not block.
class IoSection {
 public:
  void enter() { state_.fetch_add(1, std::memory_order_seq_cst); }
  void leave() { state_.fetch_add(1, std::memory_order_release); }
  // Returns when a section that was open at the call has been left.
  void wait_for_open() const;

 private:
  std::atomic<uint64_t> state_{0};  // odd: open
};

class StagTable {
 public:
  // Throws Error: REGISTER_FAILED; also for remote rights after revoke_remote().
  uint32_t add(uint64_t address, uint64_t length, unsigned access);
  // When it has returned, neither I/O thread touches the range.
  void remove(uint32_t stag);
  // Takes the remote rights away (SEND with invalidate). False: there is no such region, or it has none.
  bool invalidate(uint32_t stag);

  // Takes the remote rights of every region away, and lets none be added. When it has returned, no byte of
  // the peer's WRITEs is placed any more, of one that is under way neither.
  void revoke_remote();

  std::optional<Region> find(uint32_t stag) const;
  // Changes whenever a region loses rights. Read it before find() and again inside the section.
  uint64_t generation() const { return generation_.load(std::memory_order_seq_cst); }

  IoSection receiving;
  IoSection sending;

 private:
  mutable std::mutex mutex_;
  std::unordered_map<uint32_t, Region> regions_;
  bool remote_revoked_ = false;
  std::atomic<uint64_t> generation_{1};
};

}  // namespace rdma_migrate::iwarp
