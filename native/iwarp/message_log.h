// What a resumable queue pair has sent and the peer has not acknowledged, and what it has received and not
// acknowledged. Pure: no socket, no clock of its own. Both directions number their messages from 1, whatever
// carrier they travel on: WRITE, SEND, READ request, READ response.
//
//   acked <= emitted on this carrier <= started on this carrier <= last() = acked + what the log holds
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>

#include "fabric/types.h"

namespace rdma_migrate::iwarp {

// A READ of the peer's that waits for ours.
struct ReadJob {
  uint32_t sink_stag = 0;
  uint64_t sink_offset = 0;
  uint32_t source_stag = 0;
  uint64_t source_offset = 0;
  uint32_t length = 0;
};

struct LoggedMessage {
  std::optional<ReadJob> response;  // none: the request
  fabric::SendWorkRequest request;
  uint32_t msn = 0;  // of a SEND or a READ request
};

class MessageLog {
 public:
  using Clock = std::chrono::steady_clock;

  // From the first message on, once the peer has asked for it too. Off, nothing below is called but what says
  // that there is nothing.
  void enable() { on_ = true; }
  // The peer cannot know yet that this end has its answer: an acknowledgement of nothing says so, at once.
  void greet() { greets_ = true; }
  bool on() const { return on_; }

  // Sending. What has to be sent once more on this carrier, oldest first; nullptr: nothing has.
  const LoggedMessage* again() const { return started_ < log_.size() ? &log_[started_] : nullptr; }
  void start_again() { ++started_; }
  void start(LoggedMessage message);
  // The last segment of the oldest message that was started is on its way.
  void emit();
  bool empty() const { return log_.empty(); }
  size_t size() const { return log_.size(); }
  // Requests are bounded by the send queue, answers to a peer that asks and does not acknowledge by this.
  // Whole messages on this carrier that the peer has not acknowledged.
  size_t emitted() const { return emitted_; }
  bool has_most_responses() const { return responses_ >= kMostResponses; }
  uint64_t last() const { return acked_ + log_.size(); }
  uint64_t acked() const { return acked_; }
  // The peer has everything up to rx_seq. False: it cannot.
  bool acknowledge(uint64_t rx_seq);
  // Work requests that have been acknowledged since the last call.
  size_t take_acknowledged();

  // Receiving.
  void receive_payload(size_t bytes) { unsaid_bytes_ += bytes; }
  void receive_message() { ++rx_seq_; }
  uint64_t rx_seq() const { return rx_seq_; }
  bool owes_ack() const { return !choked_ && (greets_ || said_ != rx_seq_); }
  bool ack_is_due() const;
  // Something that has come could not be kept: nothing is acknowledged any more.
  void choke() { choked_ = true; }
  bool is_choked() const { return choked_; }
  // An acknowledgement is on its way.
  void say_ack();
  // Looks at the time after each turn. is_dry: nothing more is there to be received. A peer that waits for a
  // completion before it sends more should not wait for the silence too.
  void tick(Clock::time_point now, bool is_dry);
  std::optional<Clock::time_point> ack_by() const { return ack_by_; }

  // Control messages have numbers of their own, on each carrier from 1.
  uint32_t next_control() { return ++controls_sent_; }
  uint32_t due_control() const { return controls_received_ + 1; }
  void receive_control() { ++controls_received_; }
  // Anything has come, of whatever kind.
  bool has_heard() const { return rx_seq_ != 0 || controls_received_ != 0; }

  // What is left of it in another process. acked..acked+messages: what the peer has not acknowledged.
  struct Saved {
    uint64_t acked = 0;
    uint64_t highest = 0;
    uint64_t rx_seq = 0;
    std::deque<LoggedMessage> messages;
  };
  Saved save() const { return {acked_, highest_, rx_seq_, log_}; }
  // Of one that has carried nothing. resume() follows.
  void restore(Saved saved);

  // A new carrier. The peer says where it stands; false: it cannot stand there, and nothing has changed.
  // RESUME and RESUMED were each end's first control message.
  bool resume(uint64_t peer_rx_seq, uint64_t peer_tx_next);
  bool can_resume(uint64_t peer_rx_seq, uint64_t peer_tx_next) const;

  // An acknowledgement goes out each so many messages or bytes, after so much silence, or before that when
  // nothing more is there to be received.
  static constexpr uint64_t kAckMessages = 32;
  static constexpr uint64_t kAckBytes = 256 * 1024;
  static constexpr std::chrono::milliseconds kAckSilence{1};
  static constexpr size_t kMostResponses = 128;

 private:
  void drop(uint64_t count);

  bool on_ = false;
  bool greets_ = false;
  std::deque<LoggedMessage> log_;
  uint64_t acked_ = 0;
  uint64_t highest_ = 0;  // emitted whole, on whatever carrier
  size_t started_ = 0;    // of log_, on this carrier
  size_t emitted_ = 0;
  size_t responses_ = 0;
  size_t acknowledged_requests_ = 0;
  uint64_t rx_seq_ = 0;
  uint64_t said_ = 0;
  uint64_t unsaid_bytes_ = 0;
  bool silence_is_over_ = false;
  bool choked_ = false;
  std::optional<Clock::time_point> ack_by_;
  uint32_t controls_sent_ = 0;
  uint32_t controls_received_ = 0;
};

}  // namespace rdma_migrate::iwarp
