// The registered memory of one Domain: one key table for all its queue pairs. An STag is lkey and rkey in
// one; it is drawn at random, so that none can be guessed from another.
//
// A region has a wire base, which peers and the work requests of this side address, apart from the local
// pointer: after a move another process stands in for it with memory of its own, and every address that a
// program or its peer knows is right still.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "fabric/backing.h"
#include "fabric/fabric.h"
#include "fabric/work_request.h"
#include "iwarp/engine.h"

namespace rdma_migrate::iwarp {

struct Region {
  uint32_t stag = 0;
  uint64_t wire_base = 0;  // what work requests and peers name
  uint64_t address = 0;    // where it is here
  uint64_t length = 0;
  unsigned access = 0;
  // As its memory, used only inside a section and after the generation has been looked at there. May be null.
  fabric::Backing* backing = nullptr;

  // Whether offset..offset+size, as peers count, lies inside; nothing of it can wrap.
  bool covers_wire(uint64_t offset, uint64_t size) const { return covers(wire_base, offset, size); }
  bool covers_local(uint64_t at, uint64_t size) const { return covers(address, at, size); }
  fabric::LocalRange wire() const { return {wire_base, length, access}; }
  uint64_t local_of(uint64_t wire) const { return address + (wire - wire_base); }

 private:
  bool covers(uint64_t base, uint64_t at, uint64_t size) const {
    return at >= base && size <= length && at - base <= length - size;
  }
};

class RegionTable {
 public:
  explicit RegionTable(std::shared_ptr<Engine> engine) : engine_(std::move(engine)) {}

  // backing: lives until it has been removed and left. Throws Error: REGISTER_FAILED; also for remote rights
  // after revoke_remote().
  uint32_t add(uint64_t address, uint64_t length, unsigned access, fabric::Backing* backing = nullptr);
  // The same with the key and the wire base that it has had elsewhere. Throws Error: REGISTER_FAILED also
  // when the key is in use here.
  void add_as(uint32_t stag, uint64_t wire_base, uint64_t address, uint64_t length, unsigned access,
              fabric::Backing* backing = nullptr);
  // Nobody finds it any more. True: no processor touches the range. False: one may, until wait_until_left()
  // has returned.
  bool remove(uint32_t stag);
  // When it has returned, no processor touches a range under rights that were taken away before the call.
  void wait_until_left() const { engine_->wait_until_left(this); }
  // Takes the remote rights of one away (SEND with invalidate), of WRITEs that are under way on other queue
  // pairs too. False: there is no such region, or it has none.
  bool invalidate(uint32_t stag);
  // Takes the remote rights of every region away, and lets none be added. When it has returned, no byte of a
  // peer's WRITEs is placed any more, of one that is under way neither.
  void revoke_remote();

  // Once. Processors read the pointer while this is called.
  void observe_placement(std::shared_ptr<fabric::PlacementObserver> observer);
  fabric::PlacementObserver* placement() const { return placement_.load(std::memory_order_acquire); }

  std::optional<Region> find(uint32_t stag) const;
  // Changes whenever a region loses rights. Read it before find() and again inside a section.
  uint64_t generation() const { return generation_.load(std::memory_order_seq_cst); }
  const std::shared_ptr<Engine>& shared_engine() const { return engine_; }

 private:
  // With the lock held.
  bool try_add(const Region& region);

  const std::shared_ptr<Engine> engine_;
  mutable std::mutex mutex_;
  std::unordered_map<uint32_t, Region> regions_;
  bool remote_revoked_ = false;
  std::shared_ptr<fabric::PlacementObserver> placement_owner_;
  std::atomic<fabric::PlacementObserver*> placement_{nullptr};
  std::atomic<uint64_t> generation_{1};
};

}  // namespace rdma_migrate::iwarp
