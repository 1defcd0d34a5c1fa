// The provider-neutral verbs interface: what an RDMA device gives, whether a NIC (native/verbs) or our
// software RNIC (native/iwarp). Nothing here knows a QEMU message. Names are libibverbs' and librdmacm's.
//
// Life of a connection, both sides:
//   create (Provider::connect_to / ConnectionRequest) -> register memory, post RECVs -> connect() or accept()
//   -> on_established -> post_send / on_send / on_recv ... -> on_closed (exactly once, the last event) ->
//   destroy.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "error.h"

namespace rdma_migrate::fabric {

using Bytes = std::vector<uint8_t>;

// Access rights of a memory region (ibv_access_flags). Local read is always allowed.
enum Access : unsigned {
  kAccessLocalWrite = 1,
  kAccessRemoteWrite = 2,
  kAccessRemoteRead = 4,
};

// A registered range. Destroying it deregisters: when the destructor has returned, the provider touches the
// range no more and a peer that uses the rkey is refused. Must be destroyed before its connection.
class MemoryRegion {
 public:
  virtual ~MemoryRegion() = default;
  virtual uint64_t address() const = 0;
  virtual uint64_t length() const = 0;
  virtual uint32_t lkey() const = 0;
  virtual uint32_t rkey() const = 0;
};

enum class Opcode : uint8_t { kSend, kRdmaWrite, kRdmaRead, kRecv };

// kFlushed: the connection ended before the work request was carried out (IBV_WC_WR_FLUSH_ERR).
enum class Status : uint8_t { kSuccess, kFlushed, kError };

struct SendWorkRequest {
  uint64_t wr_id = 0;
  Opcode opcode = Opcode::kSend;
  uint64_t address = 0;  // local buffer: source of SEND and WRITE, sink of READ
  uint32_t length = 0;   // bytes; 0 is allowed
  uint32_t lkey = 0;     // of a region that covers the local buffer
  uint64_t remote_address = 0;
  uint32_t rkey = 0;
  bool signaled = true;  // false: a completion is reported only if it fails
};

struct RecvWorkRequest {
  uint64_t wr_id = 0;
  uint64_t address = 0;
  uint32_t length = 0;
  uint32_t lkey = 0;
};

struct Completion {
  uint64_t wr_id = 0;
  Opcode opcode = Opcode::kSend;
  Status status = Status::kSuccess;
  uint32_t byte_len = 0;  // RECV and READ: bytes received
};

// Called on the provider's threads, one at a time per queue (sends and receives may overlap each other). An
// implementation must not block and must not destroy the connection from inside an event.
class ConnectionEvents {
 public:
  virtual ~ConnectionEvents() = default;
  // The connection is up. private_data: what the peer sent in its request or reply, without the provider's
  // own fields.
  virtual void on_established(std::span<const uint8_t> private_data) = 0;
  virtual void on_send(const Completion& completion) = 0;
  virtual void on_recv(const Completion& completion) = 0;
  // What the peer wrote cannot be kept here (DISK_FULL, IO_ERROR), and nothing more is received. For some
  // seconds a message may be sent still, and disconnect() be called; on_closed with the same reason follows.
  virtual void on_receive_failed(const Error& reason) { (void)reason; }
  // The last event, exactly once, after the completions of everything that was posted (flushed ones
  // included). nullptr: an orderly end (the peer disconnected between messages, or this side called
  // disconnect or close).
  virtual void on_closed(const Error* reason) = 0;
};

struct ConnectionOptions {
  uint32_t max_send_wr = 512;
  uint32_t max_recv_wr = 8;
  // MPA CRC32C: offered or demanded by this side. In use when either side wants it. Providers with a CRC of
  // their own ignore it.
  bool crc = false;
  // From connect() or accept() to on_established; then the longest time without progress while work is
  // outstanding. Progress is a message that ends, or ProgressWatch::kLeastRate.
  uint32_t connect_timeout_ms = 10'000;
  uint32_t stall_timeout_ms = 30'000;
};

// Counters that a provider keeps while it runs; read from any thread.
struct Counters {
  std::atomic<uint64_t> bytes_sent{0};      // wire bytes
  std::atomic<uint64_t> bytes_received{0};  // wire bytes; on a device those of messages only
  std::atomic<uint64_t> write_bytes_placed{0};
  // Bytes of messages of this connection, without headers: what the peer has got done. Of a device's WRITEs
  // nobody is told.
  std::atomic<uint64_t> payload_received{0};
};

struct ConnectionInfo {
  std::string provider;       // "iwarp" or "verbs"
  std::string local_address;  // "127.0.0.1:4444", "[::1]:4444"
  std::string peer_address;
  std::string detail;  // one line for logs: "MPA revision 2, CRC32C off" or "device mlx5_0 port 1"
  bool crc = false;
};

// Told of every range that a WRITE of the peer has filled, in the order of arrival and before the completion
// of a message behind it. On the receiving thread; must not block.
class PlacementObserver {
 public:
  virtual ~PlacementObserver() = default;
  virtual void placed(uint64_t address, uint64_t length) = 0;
};

class Connection {
 public:
  // Same as close(), then frees.
  virtual ~Connection() = default;

  // address..address+length must stay mapped while the region lives. Throws Error (REGISTER_FAILED,
  // LOCKED_MEMORY_LIMIT).
  virtual std::unique_ptr<MemoryRegion> register_memory(uint64_t address, uint64_t length,
                                                        unsigned access) = 0;

  // Takes every remote right from every region, for good: when it has returned, nothing of the peer's is
  // placed any more but its SENDs, and a peer that uses a key is refused, which ends the connection. No
  // region with remote rights can be registered after it (REGISTER_FAILED). Any thread; may take as long as
  // unpinning.
  virtual void revoke_remote_access() = 0;

  // True: this provider holds the physical pages of registered ranges, so they must not be punched out or
  // remapped.
  virtual bool pins_memory() const = 0;

  // Tells the observer of what the peer's WRITEs place from here on. Once, before the peer has a key. False:
  // this provider does not learn of it, as a device that writes without a word.
  virtual bool observe_placement(std::shared_ptr<PlacementObserver>) { return false; }

  // Active side: starts the handshake; the outcome is on_established or on_closed. private_data: at most 508
  // bytes (iwarp) or 56 (InfiniBand).
  virtual void connect(std::span<const uint8_t> private_data) = 0;
  // Passive side: sends the reply. reject() answers with private_data and ends the connection.
  virtual void accept(std::span<const uint8_t> private_data) = 0;
  virtual void reject(std::span<const uint8_t> private_data) = 0;

  // Queues are bounded: false when max_send_wr requests are outstanding (try again after an on_send). Throws
  // Error("CONNECTION_CLOSED") once the connection has ended, Error("INVALID_ARGUMENT") for a bad lkey or
  // range. Unsignaled requests count as outstanding until a later signaled one completes.
  virtual bool post_send(const SendWorkRequest& request) = 0;
  virtual bool post_recv(const RecvWorkRequest& request) = 0;

  // Orderly: what was posted is sent first, then the connection ends. Returns at once; on_closed follows,
  // within stall_timeout_ms even if the peer does not answer.
  virtual void disconnect() = 0;
  // Ends the connection now, waits for the provider's threads; after it no event comes (on_closed has been
  // called). Idempotent. Never call it from inside an event.
  virtual void close() = 0;

  virtual ConnectionInfo info() const = 0;
  virtual const Counters& counters() const = 0;
  // How long, in all, something was on its way to the peer: sent, and not known to have arrived. 0 where a
  // completion of a WRITE tells as much.
  virtual std::chrono::microseconds wire_time() const { return {}; }
};

// An incoming connection that has sent its request. Destroying it without take() rejects it.
class ConnectionRequest {
 public:
  virtual ~ConnectionRequest() = default;
  virtual std::span<const uint8_t> private_data() const = 0;
  virtual std::string peer_address() const = 0;
  // Makes the passive connection (post RECVs, then accept() or reject()). events must outlive it.
  virtual std::unique_ptr<Connection> take(const ConnectionOptions& options, ConnectionEvents& events) = 0;
};

class Listener {
 public:
  virtual ~Listener() = default;
  virtual std::string address() const = 0;  // with the port that was bound
  virtual uint16_t port() const = 0;
  virtual void close() = 0;  // idempotent; no callback after it returns
};

// A peer that was turned away before it had made a request.
struct Stranger {
  std::string address;  // "192.0.2.7:54321"
  std::string
      spoke;  // what it seemed to speak, in the provider's words: nothing of it is the peer's own text
  uint32_t count = 1;  // strangers since the last report, this one included
};

// Called on a provider thread.
struct ListenerCallbacks {
  std::function<void(std::unique_ptr<ConnectionRequest>)> request;
  // The listener serves nobody any more; once, and nothing follows. LISTEN_FAILED: its device is gone.
  std::function<void(const Error&)> failed = [](const Error&) {};
  // At most one a second; some providers hear of none.
  std::function<void(const Stranger&)> stranger = [](const Stranger&) {};
};

struct Endpoint {
  std::string host;  // IPv4, IPv6 without brackets, or a name
  uint16_t port = 0;
};

class Provider {
 public:
  virtual ~Provider() = default;
  virtual std::string name() const = 0;
  // Peers that do not complete their request within
  // connect_timeout_ms are dropped; one slow or hostile peer does not hold up another; at most 16 half-open
  // peers at a time. Throws Error: ADDRESS_IN_USE, ADDRESS_NOT_FOUND, PERMISSION_DENIED, LISTEN_FAILED.
  virtual std::unique_ptr<Listener> listen(const Endpoint& endpoint, const ConnectionOptions& options,
                                           ListenerCallbacks callbacks) = 0;
  // Makes the active connection, unconnected; no network traffic and no name look-up before connect().
  virtual std::unique_ptr<Connection> connect_to(const Endpoint& endpoint, const ConnectionOptions& options,
                                                 ConnectionEvents& events) = 0;
};

}  // namespace rdma_migrate::fabric
