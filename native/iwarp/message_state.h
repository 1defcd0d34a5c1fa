// What of a queue pair outlives its carrier: the queues, the message numbers, the READs under way. Queues
// take requests from any thread; everything else belongs to the queue pair's processor.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <string>

#include "fabric/fabric.h"
#include "iwarp/message_log.h"
#include "iwarp/recv_queue.h"
#include "iwarp/region_table.h"
#include "iwarp/send_queue.h"

namespace rdma_migrate::iwarp {

// A READ of ours that waits for its response.
struct PendingRead {
  uint32_t stag = 0;
  uint64_t address = 0;  // wire
  uint32_t length = 0;
  uint64_t seq = 0;  // of its request, where messages are logged
};

// Told by the receiver, on the processor, where messages are logged.
class LoggedUser {
 public:
  virtual ~LoggedUser() = default;
  // Before the first message of the peer's counts.
  virtual void heard_first() = 0;
  // A control message that is neither ACK nor END. Throws WireFault, Error.
  virtual void heard_control(std::span<const uint8_t> payload) = 0;
};

// A control message that waits to be sent. at_rest: behind every message that was begun.
struct WaitingControl {
  fabric::Bytes payload;
  bool at_rest = false;
};

struct MessageState {
  MessageState(const fabric::QueuePairOptions& given, fabric::QueuePairEvents& receiver,
               std::shared_ptr<RegionTable> table, LoggedUser* logged_user = nullptr)
      : options(given),
        events(receiver),
        user(logged_user),
        regions(std::move(table)),
        send_queue(given.max_send_wr),
        recv_queue(given.max_recv_wr),
        holds(given.hold_until_protected) {}

  std::chrono::milliseconds stall_timeout() const {
    return std::chrono::milliseconds(options.stall_timeout_ms);
  }

  const fabric::QueuePairOptions options;
  fabric::QueuePairEvents& events;
  LoggedUser* const user;  // none: nobody wants to know
  const std::shared_ptr<RegionTable> regions;
  fabric::Counters counters;
  SendQueue send_queue;
  RecvQueue recv_queue;
  std::atomic<bool> large_segments{false};  // the peer is known to take them
  std::atomic<bool> holds;                  // each SEND is followed by a hold, until protect()
  std::atomic<bool> held{false};            // until resume_receive() or protect() nothing more is taken

  // The processor's.
  size_t ord = 0;        // READs of ours at a time
  size_t ird = 0;        // READs of the peer's at a time
  MessageLog log;        // on: the queue pair is resumable
  bool stopped = false;  // nothing new is begun: one of the ends moves
  std::deque<WaitingControl> controls;
  std::deque<PendingRead> pending_reads;
  std::deque<ReadJob> read_jobs;
  uint32_t sent_sends = 0, sent_reads = 0;          // the last message numbers given
  uint32_t received_sends = 0, received_reads = 0;  // the last ones taken
  bool oldest_failed = false;  // the oldest send request failed for a reason of this side
};

}  // namespace rdma_migrate::iwarp
