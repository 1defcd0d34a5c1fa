// What the receiver and the sender of one connection share.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "fabric/fabric.h"
#include "fd.h"
#include "iwarp/recv_queue.h"
#include "iwarp/send_queue.h"
#include "iwarp/stag_table.h"

namespace rdma_migrate::iwarp {

using Clock = std::chrono::steady_clock;

// MPA (RFC 5044 section 7.1.2) lets the initiator speak first, and in a migration the responder does. Linux'
// siw gives up a connection whose first message comes together with the MPA reply, so it must not catch up
// with the reply, on busy hosts and through proxies either.
constexpr std::chrono::milliseconds kFirstSendPause{200};

// Thrown inside an I/O thread when close() has asked it to end.
struct Stopped {};

struct PendingRead {
  uint32_t stag = 0;
  uint64_t address = 0;
  uint32_t length = 0;
};

struct ReadJob {
  uint32_t sink_stag = 0;
  uint64_t sink_offset = 0;
  uint32_t source_stag = 0;
  uint64_t source_address = 0;
  uint32_t length = 0;
};

struct Link {
  explicit Link(const fabric::ConnectionOptions& given)
      : options(given), send_queue(given.max_send_wr), recv_queue(given.max_recv_wr) {}

  // Once. The receiver reads the pointer while this is called.
  void observe_placement(std::shared_ptr<fabric::PlacementObserver> observer) {
    if (placement_owner)
      throw Error("INVALID_ARGUMENT", "the placement of this connection is observed already");
    placement_owner = std::move(observer);
    placement.store(placement_owner.get(), std::memory_order_release);
  }

  std::chrono::milliseconds stall_timeout() const {
    return std::chrono::milliseconds(options.stall_timeout_ms);
  }

  // Ends both threads at their next look.
  void stop() {
    stopping.store(true);
    receiver_wake.signal();
    sender_wake.signal();
  }
  // disconnect(): what is queued is sent, and the end must have come by drain_deadline().
  void drain() {
    Clock::rep unset = 0;
    const Clock::time_point by = Clock::now() + kFirstSendPause + stall_timeout();
    drain_by_.compare_exchange_strong(unset, by.time_since_epoch().count());
    draining.store(true);
    sender_wake.signal();
    receiver_wake.signal();
  }
  std::optional<Clock::time_point> drain_deadline() const {
    const Clock::rep by = drain_by_.load();
    if (by == 0) return std::nullopt;
    return Clock::time_point(Clock::duration(by));
  }
  // The sender's failure; the first one counts. The receiver may know better: it reads what the peer had to
  // say.
  void set_sender_error(const Error& error) {
    std::lock_guard lock(error_mutex);
    if (!sender_error) sender_error = error;
  }
  std::optional<Error> get_sender_error() {
    std::lock_guard lock(error_mutex);
    return sender_error;
  }
  // The sender's failure, unless it is one that the receiver meets on the socket too.
  std::optional<Error> local_sender_error() {
    if (!sender_finished.load() || fin_sent.load()) return std::nullopt;
    std::optional<Error> error = get_sender_error();
    if (error && error->code() == "CONNECTION_LOST") return std::nullopt;
    return error;
  }
  bool may_send(Clock::time_point now) const {
    return now >= first_send || counters.bytes_received.load(std::memory_order_relaxed) != 0;
  }
  // Asks the sender to send this TERMINATE as its last message.
  void request_terminate(fabric::Bytes payload) {
    {
      std::lock_guard lock(error_mutex);
      terminate_payload = std::move(payload);
    }
    terminating.store(true);
    sender_wake.signal();
  }
  fabric::Bytes terminate() {
    std::lock_guard lock(error_mutex);
    return terminate_payload;
  }

  const fabric::ConnectionOptions options;
  const std::shared_ptr<StagTable> stags = std::make_shared<StagTable>();
  fabric::Counters counters;
  SendQueue send_queue;
  RecvQueue recv_queue;
  BoundedList<PendingRead> pending_reads;  // ours; limit ORD
  BoundedList<ReadJob> read_jobs;          // the peer's; limit IRD
  WakeEvent receiver_wake;
  WakeEvent sender_wake;
  std::atomic<bool> stopping{false};
  std::atomic<bool> draining{false};         // disconnect() was called
  std::atomic<bool> terminating{false};      // a TERMINATE is to be sent
  std::atomic<bool> fin_sent{false};         // the sender has ended the stream
  std::atomic<bool> sender_finished{false};  // the sender's thread sends nothing any more
  std::atomic<bool> local_fault{false};      // the oldest send request failed for a reason of this side
  std::atomic<fabric::PlacementObserver*> placement{nullptr};
  // The peer has ended the stream in the middle of a message. It must not take our end for an orderly one.
  std::atomic<bool> truncated{false};

  // Set before the I/O threads start.
  UniqueFd socket;
  Clock::time_point first_send{};  // nothing is sent earlier, unless the peer has sent something
  bool crc = false;
  std::string peer;

 private:
  std::shared_ptr<fabric::PlacementObserver> placement_owner;
  std::atomic<Clock::rep> drain_by_{0};  // 0: not asked to end
  std::mutex error_mutex;
  std::optional<Error> sender_error;
  fabric::Bytes terminate_payload;
};

}  // namespace rdma_migrate::iwarp
