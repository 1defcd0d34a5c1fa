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

// Told on the processor before the first message of the peer's counts, where messages are logged.
class FirstMessage {
 public:
  virtual ~FirstMessage() = default;
  virtual void heard_first() = 0;
};

struct MessageState {
  MessageState(const fabric::QueuePairOptions& given, fabric::QueuePairEvents& receiver,
               std::shared_ptr<RegionTable> table, FirstMessage* first_message = nullptr)
      : options(given),
        events(receiver),
        first(first_message),
        regions(std::move(table)),
        send_queue(given.max_send_wr),
        recv_queue(given.max_recv_wr),
        holds(given.hold_until_protected) {}

  std::chrono::milliseconds stall_timeout() const {
    return std::chrono::milliseconds(options.stall_timeout_ms);
  }

  const fabric::QueuePairOptions options;
  fabric::QueuePairEvents& events;
  FirstMessage* const first;  // none: nobody wants to know
  const std::shared_ptr<RegionTable> regions;
  fabric::Counters counters;
  SendQueue send_queue;
  RecvQueue recv_queue;
  std::atomic<bool> large_segments{false};  // the peer is known to take them
  std::atomic<bool> holds;                  // each SEND is followed by a hold, until protect()
  std::atomic<bool> held{false};            // until resume_receive() or protect() nothing more is taken

  // The processor's.
  size_t ord = 0;  // READs of ours at a time
  size_t ird = 0;  // READs of the peer's at a time
  MessageLog log;  // on: the queue pair is resumable
  std::deque<PendingRead> pending_reads;
  std::deque<ReadJob> read_jobs;
  uint32_t sent_sends = 0, sent_reads = 0;          // the last message numbers given
  uint32_t received_sends = 0, received_reads = 0;  // the last ones taken
  bool oldest_failed = false;  // the oldest send request failed for a reason of this side
};

}  // namespace rdma_migrate::iwarp
