// The sending half of DDP and RDMAP as a state machine that never waits: cuts work requests into FPDUs,
// answers the peer's READs, and reports completions.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fabric/progress_watch.h"
#include "iwarp/message_state.h"
#include "iwarp/terminate.h"
#include "iwarp/tx_batch.h"

namespace rdma_migrate::iwarp {

class Transmitter {
 public:
  Transmitter(MessageState& messages, IoSection& section, const std::string& peer)
      : messages_(messages), section_(section), peer_(peer), watch_(messages.stall_timeout()) {}

  void open(int socket, bool crc);
  // Nothing waits to be sent, whole or in part.
  bool is_idle() const;
  // From the next byte on everything leaves in protected records, and without CRC. Before the first byte, or
  // when idle.
  void protect(RecordWriter writer) noexcept;

  enum class Went {
    kIdle,  // nothing is left to send
    kFull,  // the socket takes nothing for now
    kOn,    // there is more; others first
  };
  // Sends budget bytes or a little more, and reports what has completed. Throws Error CONNECTION_LOST,
  // INVALID_ARGUMENT (memory was deregistered), IO_ERROR.
  Went transmit(size_t budget);
  // Drops what is queued and half sent messages; the TERMINATE is the last one. transmit() sends it.
  void terminate(fabric::Bytes payload);
  bool terminating() const { return terminating_; }
  // Nothing but the end is sent any more. True: the stream may be ended now; false: transmit() first, of a
  // protected stream the word that it ends here.
  bool say_end();
  // say_end() has been called: what comes to be sent after it never is.
  bool is_ending() const { return end_ != End::kOpen; }

  // Nothing that was begun is left to be sent.
  bool is_at_rest() const { return !job_ && messages_.log.again() == nullptr; }
  // What has completed is reported; transmit() does so too.
  void report();
  // The carrier goes, and the queue pair stays: what was taken and not begun is left to the next one.
  void leave_rest();

  // The peer takes nothing, or acknowledges nothing: throws Error TIMEOUT.
  void check_stall(Clock::time_point now);
  std::optional<Clock::time_point> next_look(Clock::time_point now);

 private:
  // One message being cut into segments.
  struct Job {
    DdpHeader header;
    TxBatch::Source source;  // of the next segment
    uint32_t left = 0;
    bool is_response = false;
  };

  bool fill();
  bool fill_last();
  size_t payload_limit() const;
  bool next_job();
  bool start_request(const fabric::SendWorkRequest& request);
  void start_message(const fabric::SendWorkRequest& request, uint32_t send_number);
  bool start_read(const fabric::SendWorkRequest& request);
  void check_sink(const fabric::SendWorkRequest& request);
  void ask(const fabric::SendWorkRequest& request, uint32_t read_number);
  void start_response(const ReadJob& job);
  bool take_more();
  bool awaits_peer() const;
  void append_segment();
  bool send_batch();
  uint64_t taken_by_peer() const;
  const Region& region_of(uint32_t stag);

  // transmitter_log.cc: of a resumable queue pair.
  bool has_work();
  void append_due_ack();
  void append_controls();
  void append_ack();
  void append_control_end();
  void append_control(std::span<const uint8_t> payload);
  void start_again(const LoggedMessage& message);
  bool awaits_acks_before_failure() const;

  [[noreturn]] void fail_deregistered();
  [[noreturn]] void fail_request(const char* why);
  [[noreturn]] void fail_unreadable(uint64_t address);
  [[noreturn]] void fail_send();

  MessageState& messages_;
  IoSection& section_;
  const std::string& peer_;
  int socket_ = -1;
  bool crc_ = false;
  std::optional<RecordWriter> records_;
  enum class End { kOpen, kDue, kSaid } end_ = End::kOpen;
  std::unique_ptr<TxBatch> batch_;              // while something is on its way into the socket
  size_t most_payload_ = TxBatch::kMaxPayload;  // of one segment
  bool blocked_ = false;
  bool terminating_ = false;
  fabric::Bytes terminate_payload_;
  fabric::ProgressWatch watch_;                 // runs while a batch waits for the peer
  uint64_t peer_had_ = 0;                       // taken_by_peer() at the last look
  std::vector<fabric::SendWorkRequest> taken_;  // from the send queue, not all started
  size_t next_taken_ = 0;
  std::optional<Job> job_;
  std::optional<Error> failure_;  // of the request after those in the batch
  Region region_;                 // of the last message
  uint64_t region_generation_ = 0;
  size_t finished_ = 0;  // requests whose last byte is in the batch
  uint64_t acked_ = 0;   // of the log, when it was looked at last
  std::vector<fabric::Completion> completions_;
  uint8_t read_request_[kReadRequestSize] = {};  // of job_
};

}  // namespace rdma_migrate::iwarp
