// Domain, queue pair, listener: what an RDMA device gives, whether a NIC (native/verbs) or our software RNIC
// (native/iwarp). Names are libibverbs' and librdmacm's.
//
// Life of a queue pair, both sides:
//   Domain::create_queue_pair -> register memory, post RECVs (and SENDs, which wait) -> connect() or accept()
//   -> on_established -> post_send / on_send / on_recv ... -> on_closed (exactly once, the last event) ->
//   destroy.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "fabric/backing.h"
#include "fabric/move.h"
#include "fabric/protection.h"
#include "fabric/queue_pair_state.h"
#include "fabric/types.h"

namespace rdma_migrate::fabric {

// A registered range. Destroying it deregisters: when the destructor has returned, the provider touches the
// range no more and a peer that uses the rkey is refused. Must be destroyed before its Domain.
//
// What a peer's WRITE leaves in it is not to be trusted before a message after that WRITE has come: the
// software RNIC places bytes before it knows the CRC of their FPDU, and ends the queue pair when it is wrong.
// So memory that peers write into must be discarded when its queue pair fails, or be checked in another way
// before use.
class MemoryRegion {
 public:
  virtual ~MemoryRegion() = default;
  virtual uint64_t address() const = 0;
  virtual uint64_t length() const = 0;
  virtual uint32_t lkey() const = 0;
  virtual uint32_t rkey() const = 0;
  // Takes it out of use ahead of the destructor, without waiting: a peer that uses the rkey is refused from
  // here on. True: nothing touches the range any more, and the destructor does not wait. False: it may, for
  // the NIC, or for a page of the range that has to come from a disk first.
  virtual bool withdraw() { return false; }
};

// Called on the provider's threads, one call at a time for each queue pair. An implementation must not wait:
// so it must not close or destroy a queue pair, this one or another, nor a listener or a domain, from inside
// an event. It may post.
class QueuePairEvents {
 public:
  virtual ~QueuePairEvents() = default;
  // RTS. private_data: what the peer sent in its request or reply, without the provider's own fields.
  virtual void on_established(std::span<const uint8_t> private_data) = 0;
  // In the order of posting, never empty.
  virtual void on_send(std::span<const Completion> completions) = 0;
  virtual void on_recv(std::span<const Completion> completions) = 0;
  // Asked for with QueuePair::notify().
  virtual void on_notify() {}
  // Of a resumable queue pair. SUSPENDED: its carrier broke; what is posted waits. on_link_restored() or
  // on_closed() follows.
  virtual void on_link_lost(const Error& reason) { (void)reason; }
  virtual void on_link_restored() {}
  // Once for each of prepare_move(), stop_for_move() and abort_move(). problem: it did not come to it. BUSY:
  // the peer moves itself; CONNECT_FAILED: it cannot reach the new place; TIMEOUT; CANCELLED: by
  // abort_move().
  virtual void on_move(MoveStep step, const Error* problem) {
    (void)step;
    (void)problem;
  }
  // What the peer wrote cannot be kept here (DISK_FULL, IO_ERROR), and nothing more is received. For some
  // seconds a message may be sent still, and disconnect() be called; on_closed with the same reason follows.
  virtual void on_receive_failed(const Error& reason) { (void)reason; }
  // The last event, exactly once, after the completions of everything that was posted (flushed ones
  // included). nullptr: an orderly end (the peer disconnected between messages, or this side called
  // disconnect or close).
  virtual void on_closed(const Error* reason) = 0;
};

struct QueuePairOptions {
  uint32_t max_send_wr = 512;
  uint32_t max_recv_wr = 8;
  // MPA CRC32C: offered or demanded by this side. In use when either side wants it. Providers with a CRC of
  // their own ignore it.
  bool crc = false;
  // From connect() or accept() to on_established; then the longest time without progress while work is
  // outstanding. Progress is a message that ends, or ProgressWatch::kLeastRate.
  uint32_t connect_timeout_ms = 10'000;
  uint32_t stall_timeout_ms = 30'000;
  // Of a listener: connections of one address, in the long run; see AddressLimits. 0: it limits no address.
  uint32_t connections_per_second = 0;
  // Until protect(), after every SEND of the peer's nothing more is taken before resume_receive(): time to
  // find out whether records follow. The peer's end is noticed where nothing lies before it. Until then a
  // peer that uses a key is refused, too. Providers that protect nothing ignore it.
  bool hold_until_protected = false;
  // Software RNIC: not 0, and the peer has it too, makes the queue pair resumable. Then a work request
  // completes when the peer has acknowledged it, and a carrier that breaks is replaced: the end that has
  // called connect() dials again, every resume_retry_ms, and the other one waits at any listener of its
  // process, both for resume_window_ms at most. Nothing is lost or comes twice. A stranger cannot attach;
  // who reads the first handshake can, unless the queue pair is protected: then each carrier has keys of its
  // own, which follow from those given to protect(), and with hold_until_protected it is resumable from
  // protect() on. Of the private data it takes 12 bytes of a request and 60 of the reply to it.
  uint32_t resume_window_ms = 0;
  uint32_t resume_retry_ms = 100;
  // The users say it to each other, in private data of their own: a request has no tail of the provider's.
  bool resume_is_asked = false;
  // Of a resumable one: it may move to another process, and follows a peer that does, wherever that says it
  // is to be found. Else words about moves break the rules.
  bool movable = false;
};

// Counters that a provider keeps while it runs; read from any thread.
struct Counters {
  std::atomic<uint64_t> bytes_sent{0};      // wire bytes
  std::atomic<uint64_t> bytes_received{0};  // wire bytes; on a device those of messages only
  std::atomic<uint64_t> write_bytes_placed{0};
  // Bytes of messages of this queue pair, without headers: what the peer has got done. Of a device's WRITEs
  // nobody is told.
  std::atomic<uint64_t> payload_received{0};
  // Of a resumable queue pair: carriers that have replaced another, and bytes of messages that were begun
  // again on them.
  std::atomic<uint64_t> resumes{0};
  std::atomic<uint64_t> payload_resent{0};
};

struct QueuePairInfo {
  std::string provider;       // "iwarp" or "verbs"
  std::string local_address;  // "127.0.0.1:4444", "[::1]:4444"
  std::string peer_address;
  std::string detail;  // one line for logs: "MPA revision 2, CRC32C off" or "device mlx5_0 port 1"
  bool crc = false;
  bool resumable = false;  // agreed on: it outlives its carrier
};

// Told of every range that a WRITE of a peer has filled, in the order of arrival on its queue pair and before
// the completion of a message after it. On processing threads: several calls may come at once, one for each
// queue pair of the domain. Must not wait.
class PlacementObserver {
 public:
  virtual ~PlacementObserver() = default;
  // address: as peers count (the wire base of the region).
  virtual void placed(uint64_t address, uint64_t length) = 0;
};

// A peer's request for a connection. It costs one descriptor and no queue pair. Destroyed without having been
// accepted, it is rejected.
class ConnectionRequest {
 public:
  virtual ~ConnectionRequest() = default;
  virtual std::span<const uint8_t> private_data() const = 0;
  virtual std::string peer_address() const = 0;
  // Answers, and is over: nobody waits for the peer to take it. Throws Error INVALID_ARGUMENT (private_data
  // is too long, or it has been answered already).
  virtual void reject(std::span<const uint8_t> private_data) = 0;
};

// See QueuePair::freeze().
using TakeCompletions = std::function<std::vector<Completion>()>;

class QueuePair {
 public:
  // Same as close(), then frees.
  virtual ~QueuePair() = default;

  // Starts the handshake; the outcome is on_established or on_closed. private_data: at most 508 bytes (iwarp)
  // or 56 (InfiniBand). Throws Error INVALID_ARGUMENT, CONNECTION_CLOSED.
  virtual void connect(const Endpoint& endpoint, std::span<const uint8_t> private_data) = 0;
  // Answers the peer. The request is of this Domain's provider, and this call's from here on.
  // may_send_at_once: the peer takes a message right after the reply, and large segments; what is not known
  // to do so (Linux' siw) is given 200 ms, or until it has sent something itself.
  virtual void accept(std::unique_ptr<ConnectionRequest> request, std::span<const uint8_t> private_data,
                      bool may_send_at_once) = 0;

  // Posts the requests in order, as many as there is room for (max_send_wr outstanding): gives that number.
  // Throws Error CONNECTION_CLOSED once the queue pair has ended, BadWorkRequest (INVALID_ARGUMENT) for a bad
  // lkey or range, with those before it posted. Unsignaled requests count as outstanding until a later
  // signaled one completes.
  virtual size_t post_send(std::span<const SendWorkRequest> requests) = 0;
  virtual size_t post_recv(std::span<const RecvWorkRequest> requests) = 0;
  bool post_send(const SendWorkRequest& request) { return post_send(std::span(&request, 1)) == 1; }
  bool post_recv(const RecvWorkRequest& request) { return post_recv(std::span(&request, 1)) == 1; }

  // The peer is known to take segments that are longer than a packet of its path, which costs less. Without
  // it they fit into one, as hardware may insist on (RFC 5044 section 5.1). Devices see to that themselves.
  virtual void allow_large_segments() {}

  // Protected records: from here on everything that is sent is sealed, and everything of the peer's that has
  // not been taken yet must be. Nothing of a record is placed that cannot be authenticated: that ends the
  // queue pair (INTEGRITY_ERROR). The peer's orderly end is told from a cut, which is CONNECTION_LOST.
  // Before connect() or accept(): from the first byte after the handshake on. Later: in RTS, when everything
  // that was posted has completed, and between messages of the peer's; what it has sent in the clear and is
  // not taken yet would be taken for records (hold_until_protected). Once. Waits for the provider's thread,
  // as close() does; inside an event of this queue pair it is done at once. Throws Error INVALID_ARGUMENT
  // (another moment, a bad records_per_key, a resumable queue pair in RTS without hold_until_protected, or
  // this provider protects nothing), CRYPTO_UNAVAILABLE,
  // OUT_OF_MEMORY, CONNECTION_CLOSED; nothing is protected then, in neither direction.
  virtual void protect(const Protection& protection) {
    (void)protection;
    throw Error("INVALID_ARGUMENT", "this provider protects no records: it puts no bytes on the wire itself");
  }
  // Of hold_until_protected: the next SEND may come. for_good: nothing is held from here on, and keys may be
  // used; the owner has found out that no records follow.
  virtual void resume_receive(bool for_good) { (void)for_good; }

  // on_notify comes soon, on the provider's thread; several calls may make one event. Nothing once it has
  // ended.
  virtual void notify() = 0;

  // Orderly: what was posted is sent first, then the connection ends. Returns at once; on_closed follows,
  // within stall_timeout_ms and 5 s (linger, and what a device gives back) whatever the peer does, and
  // without a carrier within resume_window_ms besides. A handshake that is under way is finished first,
  // within connect_timeout_ms; without one it ends at once.
  virtual void disconnect() = 0;
  // Ends it now; after it no event comes (on_closed has been called). Idempotent. Never from inside an event.
  virtual void close() = 0;

  // Moving to another process (move.h). Any thread but the provider's, one call at a time; each waits for the
  // provider's thread. All throw Error INVALID_ARGUMENT (not resumable, protected, another step is due) and
  // CONNECTION_CLOSED.
  //
  // The peer is told, and finds the new place. on_move(kPrepared) follows.
  virtual void prepare_move(const MovePlan& plan);
  // What the new place needs to know for expect(). Secret: who has it is taken for this end.
  virtual Bytes announcement() const;
  // Nothing more of the send queue is begun, nor by the peer. on_move(kStopped) follows when that is so, or
  // when `drain` is over and something still moves: then what is under way is sent again. TIMEOUT: the peer
  // takes nothing.
  virtual void stop_for_move(std::chrono::milliseconds drain);
  // After kStopped: what the queue pair is, and from here on it is nothing more, until abort_move() or
  // commit_move(). take: gives the completions that have been reported and that nobody has taken; called on
  // the provider's thread, after the last one was reported. Secret.
  virtual Bytes freeze(const TakeCompletions& take);
  // The peer is asked to go on with this end. on_move(kAborted) follows, or on_closed(ALREADY_MOVED): the
  // peer has gone on with the new place. Right at every step, and of a queue pair that does not move.
  virtual void abort_move();
  // The new place has it: ends without a word to the peer. on_closed follows.
  virtual void commit_move();
  // There: in INIT, instead of connect() and accept(). expect(): the peer may connect already. thaw(): the
  // queue pair as it was, SUSPENDED; its regions have been registered. Completions that nobody had taken come
  // first. take_over(): it goes on as soon as the peer is there, for longest_pause: on_link_restored or
  // on_closed. Never before the old place can go on no more. Throw besides: IMAGE_INVALID.
  virtual void expect(std::span<const uint8_t> announcement);
  virtual void thaw(std::span<const uint8_t> image);
  virtual void take_over(std::chrono::milliseconds longest_pause);

  virtual QueuePairState state() const = 0;
  virtual QueuePairInfo info() const = 0;
  // How long, in all, something was on its way to the peer: sent, and not known to have arrived. 0 where a
  // completion of a WRITE tells as much.
  virtual std::chrono::microseconds wire_time() const { return {}; }
  virtual const Counters& counters() const = 0;

 private:
  [[noreturn]] static void fail_to_move() {
    throw Error("INVALID_ARGUMENT", "this provider moves no queue pairs: only the software RNIC does");
  }
};

inline void QueuePair::prepare_move(const MovePlan&) { fail_to_move(); }
inline Bytes QueuePair::announcement() const { fail_to_move(); }
inline void QueuePair::stop_for_move(std::chrono::milliseconds) { fail_to_move(); }
inline Bytes QueuePair::freeze(const TakeCompletions&) { fail_to_move(); }
inline void QueuePair::abort_move() { fail_to_move(); }
inline void QueuePair::commit_move() { fail_to_move(); }
inline void QueuePair::expect(std::span<const uint8_t>) { fail_to_move(); }
inline void QueuePair::thaw(std::span<const uint8_t>) { fail_to_move(); }
inline void QueuePair::take_over(std::chrono::milliseconds) { fail_to_move(); }

// A protection domain: memory regions, and the queue pairs whose peers may use them by key. Destroyed after
// both.
class Domain {
 public:
  virtual ~Domain() = default;

  // address..address+length must stay mapped while the region lives. Throws Error (REGISTER_FAILED,
  // LOCKED_MEMORY_LIMIT).
  virtual std::unique_ptr<MemoryRegion> register_memory(uint64_t address, uint64_t length,
                                                        unsigned access) = 0;
  // The same for a range that is a shared mapping of a file. A provider whose device writes memory has no use
  // for the file.
  virtual std::unique_ptr<MemoryRegion> register_mapped(uint64_t address, uint64_t length, unsigned access,
                                                        std::shared_ptr<Backing> backing) {
    (void)backing;
    return register_memory(address, length, access);
  }
  // A region that another process has had, with its key and the addresses that work requests and peers name;
  // address: of its memory here. MemoryRegion::address() is the wire base. Throws Error REGISTER_FAILED (the
  // key is in use here, or this provider moves nothing).
  virtual std::unique_ptr<MemoryRegion> register_as(const MovedRegion& was, uint64_t address) {
    (void)was;
    (void)address;
    throw Error("REGISTER_FAILED", "this provider gives regions keys of its own");
  }
  // Learns from a peer's request which device the domain is of, so that keys are right before the answer and
  // can travel with it; accept() does it otherwise. The request stays the caller's. Never from inside an
  // event; takes as long as registering what waits for the device. Nothing is to be learnt where there is no
  // device. Throws Error INVALID_ARGUMENT (answered already, or of another provider), CONNECT_FAILED (the
  // domain is another device's), RESOURCE_LIMIT, and as register_memory() does.
  virtual void bind(const ConnectionRequest& request) { (void)request; }
  // Takes every remote right from every region, for good: when it has returned, nothing of a peer's is placed
  // any more but its SENDs, and a peer that uses a key is refused, which ends its queue pair. No region with
  // remote rights can be registered after it (REGISTER_FAILED). Any thread; may take as long as unpinning.
  virtual void revoke_remote_access() = 0;
  // Tells the observer of what the peers' WRITEs place from here on. Once, before a peer has a key. False:
  // this provider does not learn of it, as a device that writes without a word.
  virtual bool observe_placement(std::shared_ptr<PlacementObserver>) { return false; }
  // True: this provider holds the physical pages of registered ranges, so they must not be punched out or
  // remapped, and registering takes time.
  virtual bool pins_memory() const = 0;

  // events must outlive it.
  virtual std::unique_ptr<QueuePair> create_queue_pair(const QueuePairOptions& options,
                                                       QueuePairEvents& events) = 0;
};

class Listener {
 public:
  virtual ~Listener() = default;
  virtual std::string address() const = 0;  // with the port that was bound
  virtual uint16_t port() const = 0;
  virtual void close() = 0;  // idempotent; no callback after it returns
};

// Somebody who came to a listener and is no peer.
struct Stranger {
  std::string address;  // "192.0.2.1:51234"
  std::string spoke;    // in words, or hexadecimal digits; never the peer's own bytes
  uint32_t count = 1;   // strangers since the last report, this one included
};

// Called on a provider thread, like QueuePairEvents: must not wait, and so must not close the listener.
struct ListenerCallbacks {
  std::function<void(std::unique_ptr<ConnectionRequest>)> request;
  // The listener serves nobody any more; once, and nothing follows. LISTEN_FAILED: its device is gone.
  std::function<void(const Error&)> failed = [](const Error&) {};
  // At most one a second.
  std::function<void(const Stranger&)> stranger = [](const Stranger&) {};
};

class Provider {
 public:
  virtual ~Provider() = default;
  virtual std::string name() const = 0;
  virtual std::unique_ptr<Domain> open_domain() = 0;
  // Peers that do not complete their request within connect_timeout_ms are dropped; one slow or hostile peer
  // does not hold up another; half-open peers and unanswered requests are bounded, of all and of one address,
  // and so is how often one address may come (connections_per_second). Throws Error:
  // ADDRESS_IN_USE, ADDRESS_NOT_FOUND, PERMISSION_DENIED, LISTEN_FAILED.
  virtual std::unique_ptr<Listener> listen(const Endpoint& endpoint, const QueuePairOptions& options,
                                           ListenerCallbacks callbacks) = 0;
};

}  // namespace rdma_migrate::fabric
