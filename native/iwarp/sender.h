// The sending half of DDP and RDMAP: cuts work requests into FPDUs, answers the peer's READs, and reports
// completions. Runs on one thread.
#pragma once

#include <optional>
#include <vector>

#include "fabric/progress_watch.h"
#include "iwarp/link.h"
#include "iwarp/terminate.h"
#include "iwarp/tx_batch.h"

namespace rdma_migrate::iwarp {

class Sender {
 public:
  Sender(Link& link, fabric::ConnectionEvents& events);

  // The thread's body. Returns when the stream has been ended (FIN or TERMINATE sent), on failure
  // (Link::sender_error) and when the link stops. Throws nothing.
  void run() noexcept;

 private:
  // One message being cut into segments.
  struct Job {
    DdpHeader header;
    TxBatch::Source source;  // of the next segment
    uint32_t left = 0;
    bool is_response = false;
  };

  void loop();
  // Fills the batch. False: nothing to send now.
  bool fill();
  bool next_job();
  bool start_request(const fabric::SendWorkRequest& request);
  void start_message(const fabric::SendWorkRequest& request);
  bool start_read(const fabric::SendWorkRequest& request);
  void start_response(const ReadJob& job);
  void append_segment();
  void send_batch();
  void wait_for_room();
  uint64_t taken_by_peer() const;
  void report();
  void send_terminate();
  void end_stream();
  [[noreturn]] void fail_deregistered();
  [[noreturn]] void fail_unreadable();
  [[noreturn]] void fail_send();

  Link& link_;
  fabric::ConnectionEvents& events_;
  TxBatch batch_;
  fabric::ProgressWatch watch_;                 // runs while a batch waits for the peer
  uint64_t peer_had_ = 0;                       // taken_by_peer() at the last look
  std::vector<fabric::SendWorkRequest> taken_;  // from the send queue, not all started
  size_t next_taken_ = 0;
  std::optional<Job> job_;
  size_t finished_ = 0;  // requests whose last byte is in the batch
  std::vector<fabric::Completion> completions_;
  uint8_t read_request_[kReadRequestSize] = {};  // of job_
  uint32_t send_msn_ = 1;
  uint32_t read_msn_ = 1;
};

}  // namespace rdma_migrate::iwarp
