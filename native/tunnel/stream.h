// One stream of bytes, both ways, over an endpoint's queue pair: a socket here, a ring of registered memory
// at each end. What the socket gives is read into registered memory, written into the peer's ring from there,
// and told of; what the peer has written goes from the ring to the socket. A ring that is full holds its
// writer back, who stops reading then.
//
// One thread for each stream does all of it (run()); the provider's threads only leave word in the inbox.
#pragma once

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "engine/endpoint.h"
#include "tunnel/ledger.h"
#include "tunnel/rings.h"
#include "tunnel/socket_pair.h"

namespace rdma_migrate::tunnel {

// Where the peer's ring is.
struct RemoteRing {
  uint64_t address = 0;
  uint32_t rkey = 0;
  uint32_t bytes = 0;
};

struct StreamLimits {
  // The peer, and the wire, may be silent so long.
  std::chrono::milliseconds silence{60'000};
  // And this end at most so long.
  std::chrono::milliseconds alive{5'000};
};

// Why a stream was reset, on the wire.
enum class Reset : uint32_t { kSocket = 1, kCancelled = 2, kSilence = 3, kFault = 4 };

class Stream final : private engine::EndpointTenant {
 public:
  // nullptr: both ways have ended in order, and the peer has been told.
  using OnEnd = std::function<void(const Error*)>;

  // Registers a ring of so many bytes, and as much to send from. The endpoint is established, so that keys
  // are right; it keeps both until it is closed, for WRITEs may be under way when the stream has ended.
  // Throws Error: OUT_OF_MEMORY, REGISTER_FAILED, LOCKED_MEMORY_LIMIT, CONNECTION_CLOSED.
  Stream(std::shared_ptr<engine::Endpoint> endpoint, uint32_t ring_bytes);
  // Resets it if it has not ended.
  ~Stream() override;

  // For the peer.
  RemoteRing ring() const {
    return {rings_->ring_region->address(), rings_->ring_region->rkey(), ring_bytes_};
  }
  // Once. on_end is called once, on the stream's thread, and is the last thing that it does; by then the
  // sockets have been closed. Throws Error: INVALID_ARGUMENT (the peer's ring), RESOURCE_LIMIT.
  void start(std::unique_ptr<SocketPair> sockets, const RemoteRing& peer, const StreamLimits& limits,
             OnEnd on_end);
  // Ends it: the peer is told, and sockets see a reset. Any thread; on_end follows, with the reason.
  void reset(const Error& reason);
  // Waits for its thread, and lets go of the rings: none is unregistered by whoever destroys it afterwards.
  // No call of on_end after it. Idempotent, by one thread.
  void close();

  uint64_t bytes_sent() const { return sent_bytes_.load(std::memory_order_relaxed); }
  uint64_t bytes_received() const { return received_bytes_.load(std::memory_order_relaxed); }

 private:
  using Clock = std::chrono::steady_clock;

  void message(const fabric::Bytes& message) override;
  void sent() override;
  void written(uint64_t value) override;
  void ended(const Error* reason) override;
  void wake();

  // The stream's thread.
  void run();
  void look();
  bool pull();
  bool push();
  bool tell();
  State standing() const;
  bool send(const State& state);
  void write_to_peer(uint64_t bytes);
  void wait();
  void check_silence(Clock::time_point now);
  void fail(const Error& reason, Reset why);
  void conclude();
  void tell_reset();

  const std::shared_ptr<engine::Endpoint> endpoint_;
  const uint32_t ring_bytes_;
  RemoteRing peer_ring_;
  StreamLimits limits_;
  OnEnd on_end_;
  WakeEvent wake_event_;
  std::atomic<bool> asleep_{false};
  // What the stream's thread is held back by: the end of a WRITE, of a SEND.
  std::atomic<bool> awaits_write_{false}, awaits_send_{false};
  std::atomic<uint64_t> sent_bytes_{0}, received_bytes_{0};

  std::mutex mutex_;  // guards the ledger and the inbox
  Ledger ledger_;
  struct Inbox {
    bool fresh = false;
    bool heard = false;
    uint64_t written = 0;  // of ours, up to where WRITEs have completed
    bool ended = false;
    std::optional<Error> reason;  // of the end
    std::optional<Error> reset;   // by this side
    std::optional<Error> fault;   // of the peer
  } inbox_;

  // Of the stream's thread from here on. Counts of bytes since the beginning.
  std::unique_ptr<SocketPair> sockets_;
  State peer_;
  uint64_t written_ = 0, completed_ = 0, consumed_ = 0, told_consumed_ = 0;
  std::deque<uint64_t> under_way_;  // where WRITEs that have not completed end
  bool input_ended_ = false, output_ended_ = false;
  bool wants_input_ = false, wants_output_ = false;
  bool told_all_ = false, over_ = false;
  std::optional<Error> error_;
  Reset why_ = Reset::kSocket;
  Clock::time_point heard_, told_;
  uint64_t payload_ = 0;

  // The queue pair takes nothing any more, since then; why is about to be told.
  std::optional<Clock::time_point> refused_;

  std::shared_ptr<const Rings> rings_;
  std::thread thread_;
};

}  // namespace rdma_migrate::tunnel
