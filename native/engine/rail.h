// One more queue pair of a migration: it carries WRITEs beside the first, and a barrier says that they have
// arrived.
//
// A barrier is a SEND of 12 bytes on the rail, and one that answers it:
//
//     kind u32     1 BARRIER, 2 PASSED                  (big-endian, both)
//     token u64    the asker's; the answer has the same
//
// A queue pair keeps its order: when a BARRIER is received, every WRITE that was posted before it has been
// placed (RFC 5040 section 5.5; the same holds for InfiniBand). The receiver answers on the same rail, on its
// processing thread. Either side may ask, and has one BARRIER under way on a rail at a time, so that four
// RECVs are enough. A SEND of another length or kind, a PASSED that nobody asked for and a flood are faults
// of the peer.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/bulk_writer.h"
#include "engine/slab.h"
#include "fabric/fabric.h"

namespace rdma_migrate::engine {

class Rail;

// Told on the rail's processing thread; must not wait.
class RailOwner {
 public:
  virtual ~RailOwner() = default;
  virtual void rail_up(Rail& rail, std::span<const uint8_t> private_data) = 0;
  virtual void rail_passed(Rail& rail, uint64_t token) = 0;
  // As EndpointObserver::link_changed.
  virtual void rail_link_changed(Rail& rail, const Error* lost) = 0;
  // The peer sent what no peer sends. The rail is of no use from here on.
  virtual void rail_fault(Rail& rail, const Error& reason) = 0;
  // As QueuePairEvents::on_receive_failed. rail_down follows.
  virtual void rail_receive_failed(Rail& rail, const Error& reason) = 0;
  // The last call. nullptr: an orderly end.
  virtual void rail_down(Rail& rail, const Error* reason) = 0;
};

class Rail final : public fabric::QueuePairEvents {
 public:
  // Registers its buffers and posts its RECVs. id: the owner's. Throws Error.
  Rail(fabric::Domain& domain, const fabric::QueuePairOptions& options, BulkWriter& writer, RailOwner& owner,
       uint64_t id);
  ~Rail() override;

  fabric::QueuePair& queue_pair() { return *queue_pair_; }
  uint64_t id() const { return id_; }
  // Its end, when it has carried nothing that counts (no WRITE either way, no barrier; of a peer's WRITEs a
  // device does not tell, but its next barrier does): the writer goes on without it. False: it has. On its
  // processing thread, once it has ended.
  bool leave_out();
  // Posts a BARRIER; rail_passed follows. Once its predecessor has passed. False: the rail has ended.
  bool ask(uint64_t token);

  void on_established(std::span<const uint8_t> private_data) override;
  void on_send(std::span<const fabric::Completion> completions) override;
  void on_recv(std::span<const fabric::Completion> completions) override;
  void on_notify() override;
  void on_link_lost(const Error& reason) override;
  void on_link_restored() override;
  void on_receive_failed(const Error& reason) override;
  void on_closed(const Error* reason) override;

 private:
  static constexpr uint32_t kRecvs = 4;
  // Two for questions: of the one before, the completion may still be to come.
  static constexpr uint32_t kAsking = 2;
  static constexpr uint32_t kSends = 4 + kAsking;
  static constexpr uint32_t kSlotBytes = 16;
  enum class Kind : uint32_t { kBarrier = 1, kPassed = 2 };

  uint8_t* slot_at(uint32_t slot) const { return slab_.data() + size_t{slot} * kSlotBytes; }
  void post_recv(uint32_t slot);
  bool say(Kind kind, uint64_t token);
  void take(const fabric::Completion& completion);
  bool answers(uint64_t token);
  void fault(const std::string& what);

  BulkWriter& writer_;
  RailOwner& owner_;
  const uint64_t id_;
  const uint32_t max_outstanding_;  // WRITEs
  fabric::Domain& domain_;
  std::atomic<bool> asks_{false};  // a barrier has been asked for, by either side
  bool faulty_ = false;            // processing thread only
  WriteLane* lane_ = nullptr;      // likewise

  std::mutex mutex_;  // guards the two below
  std::vector<uint32_t> free_slots_;
  std::optional<uint64_t> asked_;

  // Destroyed in reverse.
  const Slab slab_;
  std::unique_ptr<fabric::MemoryRegion> region_;
  std::unique_ptr<fabric::QueuePair> queue_pair_;
};

}  // namespace rdma_migrate::engine
