// What a queue pair is between two places: everything of it but its regions, which the domain's owner lists,
// and its carrier, of which a new one begins at an FPDU. Addresses are those that work requests and peers
// name, so they are the same everywhere. Pure.
#pragma once

#include <deque>
#include <vector>

#include "iwarp/message_state.h"
#include "iwarp/resume_frames.h"

namespace rdma_migrate::iwarp {

struct QueuePairImage {
  ResumeTail terms;  // of the new place
  bool crc = false;
  bool large_segments = false;
  uint32_t ord = 0, ird = 0;
  MessageLog::Saved log;
  uint32_t sent_sends = 0, sent_reads = 0, received_sends = 0, received_reads = 0;
  SendQueue::Saved send_queue;
  std::deque<fabric::RecvWorkRequest> recv_queue;
  std::deque<PendingRead> pending_reads;
  std::deque<ReadJob> read_jobs;
  std::vector<fabric::Completion> completions;  // that have come, and nobody has taken
};

// Version, length and CRC32C are in it.
fabric::Bytes encode_image(const QueuePairImage& image);
// Nothing in it is more than a queue pair with these options can hold, and the parts agree with each other.
// Throws Error IMAGE_INVALID.
QueuePairImage decode_image(std::span<const uint8_t> bytes, const fabric::QueuePairOptions& options);

}  // namespace rdma_migrate::iwarp
