// One end of a migration: a Domain, the queue pair of its control messages with their registered buffers,
// further queue pairs ("rails") for WRITEs, and the bulk writer that fills all of them. It routes completions
// to their owners; it knows no message's meaning.
//
// It lives and ends as one: the end of the control queue pair is its end, and a rail that ends takes the
// others with it, unless it has carried nothing, or rails are not needed any more. Rails are the channels of
// users: the control queue pair is channel 1, the first rail channel 2.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/barrier.h"
#include "engine/bulk_writer.h"
#include "engine/rail.h"
#include "engine/slab.h"
#include "fabric/fabric.h"

namespace rdma_migrate::engine {

// Told from the provider's threads, one call at a time; must not wait. closed() comes exactly once and last.
class EndpointObserver {
 public:
  virtual ~EndpointObserver() = default;
  virtual void established(fabric::Bytes private_data) = 0;
  virtual void message_arrived() = 0;
  virtual void message_sent(uint64_t token, bool ok) = 0;
  // Of connect_rail() and accept_rail().
  virtual void rail_established(uint64_t token, fabric::Bytes private_data) {
    (void)token, (void)private_data;
  }
  virtual void rail_refused(uint64_t token, Error reason) { (void)token, (void)reason; }
  // Of barrier(). It does not come when the endpoint ends before.
  virtual void barrier_passed(uint64_t token) { (void)token; }
  // Of a resumable channel, counted from 1: its carrier broke, for that reason, and what it carries waits; or
  // it goes on over another one. None when the endpoint ends.
  virtual void link_changed(uint32_t channel, std::optional<Error> lost) { (void)channel, (void)lost; }
  // Nothing more will arrive; what is sent still may reach the peer. closed() follows.
  virtual void receive_failed(Error reason) { (void)reason; }
  virtual void closed(std::optional<Error> reason) = 0;
};

// Takes the control queue pair over, from a moment on: what carries a stream of bytes and no migration. Told
// on a processing thread, one call at a time; must not wait.
class EndpointTenant {
 public:
  virtual ~EndpointTenant() = default;
  virtual void message(const fabric::Bytes& message) = 0;
  // A SEND that nobody waits for has left, or WRITEs of Owner::kStream have completed, up to this value.
  virtual void sent() = 0;
  virtual void written(uint64_t value) = 0;
  // The last call. nullptr: an orderly end.
  virtual void ended(const Error* reason) = 0;
};

// Largest control message, header included (QEMU's RDMA_CONTROL_MAX_BUFFER).
inline constexpr uint32_t kMaxControlMessage = 512 * 1024;
// A turn-taking peer has at most two messages under way (an answer and the READY after it); four leave room
// for an ERROR.
inline constexpr uint32_t kRecvSlots = 4;
inline constexpr uint32_t kSendSlots = 4;
// Of send(): nobody is told that the message has left.
inline constexpr uint64_t kNobody = 0;

class Endpoint final : public fabric::QueuePairEvents, private RailOwner {
 public:
  // What the queue pairs have done together.
  struct Totals {
    uint64_t bytes_sent = 0;
    uint64_t bytes_received = 0;
    uint64_t write_bytes_placed = 0;
    uint64_t payload_received = 0;
    uint64_t resumes = 0;
    uint64_t payload_resent = 0;
    std::chrono::microseconds wire_time{};  // the longest of any
  };

  // Makes the control queue pair, registers its buffers and posts every RECV, so that the peer may speak
  // first. The observer is told nothing of an endpoint whose constructor throws.
  Endpoint(std::unique_ptr<fabric::Domain> domain, const fabric::QueuePairOptions& options,
           EndpointObserver& observer);
  ~Endpoint() override;

  fabric::Domain& domain() { return *domain_; }
  // Of control messages: connect(), accept(), disconnect(), info().
  fabric::QueuePair& queue_pair() { return *queue_pair_; }
  BulkWriter& writer() { return writer_; }

  // Copies the message and posts the SEND. False when every send slot is in use. Throws Error
  // (INVALID_ARGUMENT when it is larger than kMaxControlMessage, CONNECTION_CLOSED).
  bool send(std::span<const uint8_t> message, uint64_t token);
  // The oldest message received, copied out; its RECV is posted again. Nothing when none has arrived.
  std::optional<fabric::Bytes> take_message();

  // From here on messages go to the tenant and to take_message() no more, those that have arrived first. The
  // tenant is told of the end as well, also of one that has been. Until settle_out(), after which no call
  // comes; nor may either be called from inside one.
  void settle_in(EndpointTenant& tenant);
  void settle_out();

  // Memory of the domain that WRITEs of the control queue pair may still be under way in when its user has
  // gone: it lives until close() has ended them. Throws Error: CONNECTION_CLOSED.
  void keep(std::shared_ptr<const void> memory);

  // One more queue pair for WRITEs, once the first is established. The outcome is rail_established or
  // rail_refused, with the token; one that could not be established, or that ends before it has carried
  // anything, ends nothing else. connect_timeout_ms: of this rail. protection: from its first byte after the
  // handshake on (fabric::QueuePair::protect). Throws Error: RESOURCE_LIMIT, CONNECTION_CLOSED and what the
  // handshake and protect() throw.
  void connect_rail(const fabric::Endpoint& to, std::span<const uint8_t> private_data,
                    uint32_t connect_timeout_ms, uint64_t token,
                    const std::optional<fabric::Protection>& protection = {});
  void accept_rail(std::unique_ptr<fabric::ConnectionRequest> request, std::span<const uint8_t> private_data,
                   uint64_t token, const std::optional<fabric::Protection>& protection = {});
  // See fabric::QueuePair; of this queue pair and of rails that are connected from now on.
  void allow_large_segments();
  // Established queue pairs, the first included.
  size_t rails() const;
  // barrier_passed(token) comes when every WRITE that was posted on a rail before this call has been placed
  // at the peer. (A message on the control queue pair is a barrier for WRITEs there.)
  void barrier(uint64_t token);
  // Everything that rails have carried is known to have been placed, and nothing more comes on them: from
  // here on the end of one ends nothing, also of one that has ended a moment ago.
  void release_rails();

  Totals totals() const;
  // Ends the queue pairs and the writer; no observer call comes after it returns. Idempotent, blocking.
  void close();

  void on_established(std::span<const uint8_t> private_data) override;
  void on_send(std::span<const fabric::Completion> completions) override;
  void on_recv(std::span<const fabric::Completion> completions) override;
  void on_notify() override;
  void on_link_lost(const Error& reason) override;
  void on_link_restored() override;
  void on_receive_failed(const Error& reason) override;
  void on_closed(const Error* reason) override;

 private:
  using Clock = Alarm::Clock;
  struct Arrived {
    uint32_t slot;
    uint32_t length;
  };
  // A rail has ended. The control queue pair may still say why, or tell the peer.
  struct Loss {
    Error reason;
    Clock::time_point until;
    bool broken;   // not ended in good order
    bool certain;  // the control queue pair cannot know more
  };

  void rail_up(Rail& rail, std::span<const uint8_t> private_data) override;
  void rail_passed(Rail& rail, uint64_t token) override;
  void rail_link_changed(Rail& rail, const Error* lost) override;
  void rail_fault(Rail& rail, const Error& reason) override;
  void rail_receive_failed(Rail& rail, const Error& reason) override;
  void rail_down(Rail& rail, const Error* reason) override;

  uint8_t* slot_address(uint32_t slot) const { return slab_.data() + size_t{slot} * kMaxControlMessage; }
  void post_recv(uint32_t slot);
  std::optional<uint32_t> claim_send_slot(uint64_t token);
  fabric::QueuePair& add_rail(fabric::QueuePairOptions options, uint64_t token,
                              const std::optional<fabric::Protection>& protection);
  bool left_out(Rail& rail);
  bool released() const;
  std::optional<uint32_t> number_of(const Rail& rail) const;
  std::string channel(const Rail& rail) const;
  void lose(const Loss& loss);
  void run_barriers();
  template <class Call>
  void tell(const Call& call);
  void pass_on();
  void end(std::optional<Error> reason);

  const fabric::QueuePairOptions options_;
  EndpointObserver& observer_;
  std::mutex telling_;  // while the observer is told: its calls come one at a time
  bool ready_ = false;  // before that the observer is told nothing
  bool ended_ = false;
  EndpointTenant* tenant_ = nullptr;
  std::optional<Error> end_reason_;
  std::atomic<bool> large_segments_{false};

  mutable std::mutex mutex_;  // guards what follows
  std::deque<Arrived> arrived_;
  std::vector<uint32_t> free_send_slots_;
  uint64_t send_tokens_[kSendSlots] = {};
  std::vector<Rail*> up_;  // in the order of their channels
  Barriers barriers_;
  std::optional<Loss> loss_;
  bool rails_released_ = false;
  bool closed_ = false;
  std::vector<std::shared_ptr<const void>> kept_;

  // ~Endpoint() closes first: then no event comes. Destroyed in reverse: queue pairs and regions before their
  // domain, and all of them before the buffers and the writer that they use.
  const Slab slab_;
  BulkWriter writer_;
  const std::unique_ptr<fabric::Domain> domain_;
  std::unique_ptr<fabric::MemoryRegion> region_;
  std::unique_ptr<fabric::QueuePair> queue_pair_;
  WriteLane* lane_ = nullptr;
  std::vector<std::unique_ptr<Rail>> rails_;
  std::unique_ptr<Alarm> alarm_;  // there are rails
};

}  // namespace rdma_migrate::engine
