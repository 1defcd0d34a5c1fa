// One end of a migration: a fabric connection, the registered buffers of its control messages, and the bulk
// writer that shares its send queue. It routes completions to their owners; it knows no message's meaning.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "engine/bulk_writer.h"
#include "fabric/fabric.h"

namespace rdma_migrate::engine {

// Told from the provider's threads; must not block. closed() comes exactly once and last.
class EndpointObserver {
 public:
  virtual ~EndpointObserver() = default;
  virtual void established(fabric::Bytes private_data) = 0;
  virtual void message_arrived() = 0;
  virtual void message_sent(uint64_t token, bool ok) = 0;
  // Nothing more will arrive; what is sent still may reach the peer. closed() follows.
  virtual void receive_failed(Error reason) { (void)reason; }
  virtual void closed(std::optional<Error> reason) = 0;
};

// Largest control message, header included (QEMU's RDMA_CONTROL_MAX_BUFFER).
inline constexpr uint32_t kMaxControlMessage = 512 * 1024;
// A turn-taking peer has at most two messages under way (an answer and the READY behind it); four leave room
// for an ERROR.
inline constexpr uint32_t kRecvSlots = 4;
inline constexpr uint32_t kSendSlots = 4;

// Zeroed memory that takes room only where it has been used: a peer that is refused costs next to nothing.
class Slab {
 public:
  explicit Slab(size_t size);
  ~Slab();
  Slab(const Slab&) = delete;
  Slab& operator=(const Slab&) = delete;
  uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  uint8_t* data_;
  size_t size_;
};

class Endpoint final : public fabric::ConnectionEvents {
 public:
  using MakeConnection = std::function<std::unique_ptr<fabric::Connection>(fabric::ConnectionEvents&)>;

  // Makes the connection, registers the control buffers and posts every RECV, so that the peer may speak
  // first. The observer is told nothing of an endpoint whose constructor throws.
  Endpoint(const MakeConnection& make_connection, uint32_t max_send_wr, EndpointObserver& observer);
  ~Endpoint() override;

  fabric::Connection& connection() { return *connection_; }
  BulkWriter& writer() { return writer_; }

  // Copies the message and posts the SEND. False when every send slot is in use. Throws Error
  // (INVALID_ARGUMENT when it is larger than kMaxControlMessage, CONNECTION_CLOSED).
  bool send(std::span<const uint8_t> message, uint64_t token);
  // The oldest message received, copied out; its RECV is posted again. Nothing when none has arrived.
  std::optional<fabric::Bytes> take_message();
  // Ends the connection and the writer; no observer call comes after it returns. Idempotent, blocking.
  void close();

  void on_established(std::span<const uint8_t> private_data) override;
  void on_send(const fabric::Completion& completion) override;
  void on_recv(const fabric::Completion& completion) override;
  void on_receive_failed(const Error& reason) override;
  void on_closed(const Error* reason) override;

 private:
  struct Arrived {
    uint32_t slot;
    uint32_t length;
  };

  uint8_t* slot_address(uint32_t slot) { return slab_.data() + size_t{slot} * kMaxControlMessage; }
  void post_recv(uint32_t slot);
  std::optional<uint32_t> claim_send_slot(uint64_t token);

  EndpointObserver& observer_;
  // A connection has no threads before its handshake, so none reads this while it changes.
  bool ready_ = false;
  std::mutex mutex_;  // guards the three members below
  std::deque<Arrived> arrived_;
  std::vector<uint32_t> free_send_slots_;
  uint64_t send_tokens_[kSendSlots] = {};

  // ~Endpoint() closes first: then no thread runs. Destroyed in reverse: the region before its connection,
  // and both before the buffers and the writer that the connection's threads use.
  Slab slab_;
  BulkWriter writer_;
  std::unique_ptr<fabric::Connection> connection_;
  std::unique_ptr<fabric::MemoryRegion> region_;
};

}  // namespace rdma_migrate::engine
