// What brings a queue pair's messages to its peer now: a TCP socket with MPA. It dials or answers, then moves
// FPDUs both ways, on one processor, and never waits.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "iwarp/dialling.h"
#include "iwarp/message_state.h"
#include "iwarp/processor.h"
#include "iwarp/receiver.h"
#include "iwarp/transmitter.h"

namespace rdma_migrate::iwarp {

// Told by a carrier, on its processor.
class CarrierUser {
 public:
  virtual ~CarrierUser() = default;
  // Messages may flow; it is told before any completes.
  virtual void carrier_up(const Negotiated& negotiated, int socket) = 0;
  // The peer broke the rules and is being told; the end follows.
  virtual void carrier_faulted() = 0;
  // What the peer wrote cannot be kept: nothing more is received, and for some seconds it can be told why.
  virtual void carrier_choked(const Error& reason) = 0;
  // The socket of carrier_up goes.
  virtual void carrier_closing() = 0;
  // The last call; the carrier serves nothing any more. Nothing: an orderly end.
  virtual void carrier_down(const std::optional<Error>& reason) = 0;
  // Instead of it, of a resumable queue pair: the way to the peer broke. The carrier serves nothing any more.
  virtual void carrier_lost(const Error& reason) = 0;
};

// What is said to a peer that has asked.
struct Answer {
  UniqueFd socket;
  MpaFrame request;
  MpaFrame reply;
  bool may_send_at_once = false;  // the peer is known to take a message right after the reply
};

class Carrier final : public Served {
 public:
  Carrier(MessageState& messages, CarrierUser& user, Processor& processor, std::string peer);
  ~Carrier() override;

  // On the processor, all of it. How it begins: one of the two.
  void dial(const fabric::Endpoint& endpoint, fabric::Bytes private_data);
  void answer(Answer answer);
  // Or: of a queue pair that goes on over another stream, on which positions have been agreed. protection:
  // from the first byte after that on.
  void go_on(UniqueFd socket, bool crc, const std::optional<fabric::Protection>& protection);
  Next serve(unsigned reasons) noexcept override;
  // QueuePair::protect(): before dial() or answer(), or when messages flow.
  void protect(const fabric::Protection& protection);
  // What is queued is sent, then the stream is ended; by then.
  void drain(std::chrono::steady_clock::time_point by);
  // Ends now.
  void abandon(const std::optional<Error>& reason = std::nullopt) { down(reason); }
  // The queue pair has another way to the peer, or looks for one: nothing that comes on this one counts any
  // more. No carrier_down() follows.
  void give_up();
  // Nothing is sent or received, and nobody waits, until it is let on again: the queue pair is frozen.
  void freeze(bool frozen);
  // What was taken from the send queue and not begun is there again, and what has completed is reported.
  void leave_rest();
  // As far as it goes without waiting, and nothing after it.
  void say_last(const fabric::Bytes& control) noexcept;
  // A control message waits, or what had been stopped may go on.
  void go_on_sending();
  // The peer is told that it broke the rules.
  void refuse(const WireFault& fault);

 private:
  enum class Phase { kNew, kDialling, kAnswering, kOpen, kTerminating, kLastWord, kDown };

  void fail(const Error& error);
  bool is_lost_by(const Error& error) const;
  bool should_tell(const Error& error) const;
  Next work();
  Next dial_on();
  Next answer_on();
  Next move_messages();
  Next terminate_on();
  bool receive_on();
  bool discard_on();
  bool transmit_on(Clock::time_point now);
  void open(UniqueFd socket, Negotiated negotiated);
  void protect_from_start(const fabric::Protection& protection);
  void become_up();
  void notice_ready();
  void end_stream();
  void say_end() noexcept;
  void begin_terminate(const WireFault& fault);
  void begin_last_word(const Error& error);
  Next say_last_word();
  void lose_sending(const Error& error);
  void check_times(Clock::time_point now);
  void check_drain();
  void set_alarm(Clock::time_point now);
  bool may_send(Clock::time_point now) const;
  void watch(int fd);
  void unwatch(int fd);
  void down(const std::optional<Error>& reason);

  MessageState& messages_;
  CarrierUser& user_;
  Processor& processor_;
  const std::string peer_;
  Phase phase_ = Phase::kNew;
  std::unique_ptr<Dialling> dialling_;
  std::optional<Answer> answer_;
  fabric::Bytes unsent_;                          // of the reply
  std::optional<fabric::Protection> protection_;  // from the first byte after the handshake on
  Clock::time_point handshake_by_{};
  Negotiated negotiated_;
  UniqueFd socket_;
  int watched_ = -1;
  bool readable_ = true;  // there may be something to receive
  bool writable_ = true;
  bool is_up_ = false;
  bool frozen_ = false;
  Receiver receiver_;
  Transmitter transmitter_;
  Clock::time_point first_send_{};  // nothing is sent earlier, unless the peer has sent something
  bool awaits_ready_ = false;
  std::optional<Clock::time_point> drain_by_;
  Clock::time_point linger_until_{};
  bool fin_sent_ = false;
  std::optional<Error> send_error_;
  std::optional<Error> fault_;
};

}  // namespace rdma_migrate::iwarp
