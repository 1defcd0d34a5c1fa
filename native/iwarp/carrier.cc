#include "iwarp/carrier.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <string_view>

#include "fabric/work_request.h"

namespace rdma_migrate::iwarp {
namespace {

// Bytes that one carrier moves in a turn, each way: others on its processor wait that long.
constexpr size_t kTurn = 1024 * 1024;

// For the user of a queue pair that can receive no more to tell the peer why.
constexpr std::chrono::seconds kLastWord{5};

constexpr std::chrono::seconds kLinger{1};  // for a peer to take a TERMINATE before the socket goes

}  // namespace

Carrier::Carrier(MessageState& messages, CarrierUser& user, Processor& processor, std::string peer)
    : messages_(messages),
      user_(user),
      processor_(processor),
      peer_(std::move(peer)),
      receiver_(messages, processor.section, peer_),
      transmitter_(messages, processor.section, peer_) {}

Carrier::~Carrier() {
  unwatch(watched_);
  dialling_.reset();
  processor_.forget(*this);
}

void Carrier::watch(int fd) {
  if (fd < 0 || fd == watched_) return;
  if (!processor_.watch(fd, *this))
    throw Error("RESOURCE_LIMIT", "the kernel watches no further socket for this process", errno);
  watched_ = fd;
}

void Carrier::unwatch(int fd) {
  if (fd < 0 || fd != watched_) return;
  processor_.unwatch(fd);
  watched_ = -1;
}

Served::Next Carrier::serve(unsigned reasons) noexcept {
  if ((reasons & (kReadable | kEnding)) != 0) readable_ = true;
  if ((reasons & kEnding) != 0) receiver_.expect_end();
  if ((reasons & kWritable) != 0) writable_ = true;
  try {
    try {
      return work();
    } catch (const WireFault& fault) {
      begin_terminate(fault);
      return terminate_on();
    } catch (const PlacementFault& fault) {
      begin_last_word(fault.error);
      return say_last_word();
    }
  } catch (const Error& error) {
    fail(error);
  } catch (const std::exception& error) {
    down(Error("INTERNAL", std::string("the software RNIC failed: ") + error.what()));
  }
  return Next::kWait;
}

void Carrier::fail(const Error& error) {
  if (is_lost_by(error)) {
    give_up();
    return user_.carrier_lost(error);
  }
  if (!should_tell(error)) return down(fault_ ? fault_ : error);
  try {
    refuse(WireFault(TerminateCode::kRdmapCatastrophic, error));
  } catch (const std::exception&) {
    down(error);  // no memory to say it
  }
}

// A resumable peer would take the end for a broken link, and wait.
bool Carrier::should_tell(const Error& error) const {
  static constexpr std::string_view kOfTheWay[] = {"CONNECTION_LOST", "TIMEOUT", "TERMINATE_RECEIVED",
                                                   "INTEGRITY_ERROR", "ALREADY_MOVED"};
  return messages_.log.on() && is_up_ && phase_ == Phase::kOpen && !fin_sent_ && !send_error_ &&
         std::find(std::begin(kOfTheWay), std::end(kOfTheWay), error.code()) == std::end(kOfTheWay);
}

// The way to the peer broke, while neither end had said that it ends.
bool Carrier::is_lost_by(const Error& error) const {
  const bool is_ending = fin_sent_ || transmitter_.is_ending() || receiver_.end_said() ||
                         (drain_by_ && Clock::now() >= *drain_by_);
  return messages_.log.on() && is_up_ && phase_ == Phase::kOpen && !is_ending &&
         (error.code() == "CONNECTION_LOST" || error.code() == "TIMEOUT");
}

Served::Next Carrier::work() {
  switch (phase_) {
    case Phase::kDialling:
      return dial_on();
    case Phase::kAnswering:
      return answer_on();
    case Phase::kOpen:
      return move_messages();
    case Phase::kTerminating:
      return terminate_on();
    case Phase::kLastWord:
      return say_last_word();
    case Phase::kNew:
    case Phase::kDown:
      return Next::kWait;
  }
  return Next::kWait;
}

Served::Next Carrier::move_messages() {
  if (frozen_) return Next::kWait;
  bool more = receive_on();
  if (phase_ != Phase::kOpen) return Next::kWait;
  const Clock::time_point now = Clock::now();
  if (messages_.log.on()) {
    messages_.log.tick(now, !readable_);
    transmitter_.report();  // also while the socket takes nothing
  }
  if (transmit_on(now)) more = true;
  check_times(now);
  if (phase_ != Phase::kOpen) return Next::kWait;
  set_alarm(now);
  return more ? Next::kGoOn : Next::kWait;
}

// True: there is more.
bool Carrier::receive_on() {
  if (!readable_) return false;
  switch (receiver_.receive(kTurn)) {
    case Receiver::Went::kDry:
      readable_ = false;
      return false;
    case Receiver::Went::kHeld:  // a kick follows
      return fin_sent_ && discard_on();
    case Receiver::Went::kOn:
      return true;
    case Receiver::Went::kReady:
      notice_ready();
      return true;
    case Receiver::Went::kEnded:
      if (messages_.log.on() && !receiver_.end_said() && !fin_sent_) {
        throw send_error_ ? *send_error_
                          : Error("CONNECTION_LOST", peer_ +
                                                         " ended the connection without saying so: it was "
                                                         "killed, or the network cut it; see its log");
      }
      // The kernel reports a reset once: when sending has met it, receiving sees an ordinary end. EPIPE is
      // different: the peer had ended the stream in order before.
      down(send_error_ && send_error_->sys_errno() != EPIPE ? send_error_ : std::nullopt);
      return false;
  }
  return false;
}

// Nothing more is wanted but the peer's end. True: there is more.
bool Carrier::discard_on() {
  const Receiver::Went went = receiver_.discard();
  if (went == Receiver::Went::kEnded) down(std::nullopt);
  return went == Receiver::Went::kOn;
}

bool Carrier::may_send(Clock::time_point now) const {
  return is_up_ && !fin_sent_ && !send_error_ &&
         (now >= first_send_ || messages_.counters.bytes_received.load(std::memory_order_relaxed) != 0);
}

// True: there is more.
bool Carrier::transmit_on(Clock::time_point now) {
  if (!writable_ || !may_send(now)) return false;
  try {
    switch (transmitter_.transmit(kTurn)) {
      case Transmitter::Went::kIdle:
        if (!drain_by_ || !(transmitter_.is_ending() || transmitter_.is_idle())) return false;
        if (transmitter_.say_end()) end_stream();
        return true;
      case Transmitter::Went::kFull:
        writable_ = false;
        return false;
      case Transmitter::Went::kOn:
        return true;
    }
  } catch (const Error& error) {
    // What the peer had to say before it went may still be read, and tells more.
    if (error.sys_errno() != EPIPE && error.sys_errno() != ECONNRESET) throw;
    send_error_ = error;
    readable_ = true;
    return true;
  }
  return false;
}

void Carrier::protect(const fabric::Protection& protection) {
  if (phase_ == Phase::kNew) {
    protection_ = protection;
    return;
  }
  if (phase_ != Phase::kOpen || !is_up_ || drain_by_ || receiver_.is_protected())
    throw Error("INVALID_ARGUMENT", "protect() while the queue pair begins or ends, or once more");
  if (!transmitter_.is_idle() || !messages_.pending_reads.empty())
    throw Error("INVALID_ARGUMENT", "protect() while something waits to be sent to " + peer_);
  RecordWriter writer(protection);  // what can fail comes before the first change
  receiver_.protect(protection);
  transmitter_.protect(std::move(writer));
  readable_ = true;  // there may be something in the buffer
  processor_.kick(*this);
}

void Carrier::drain(Clock::time_point by) {
  if (!drain_by_) drain_by_ = by;
}

void Carrier::end_stream() {
  shutdown(socket_.get(), SHUT_WR);
  fin_sent_ = true;
}

// The peer is told what it did wrong, and what it still sends is thrown away until it has taken that.
void Carrier::begin_terminate(const WireFault& fault) {
  notice_ready();
  fault_ = fault.error();
  phase_ = Phase::kTerminating;
  linger_until_ = Clock::now() + kLinger;
  user_.carrier_faulted();
  transmitter_.terminate(receiver_.terminate_payload(fault.code()));
}

Served::Next Carrier::terminate_on() {
  if (!fin_sent_ && transmitter_.transmit(kTurn) == Transmitter::Went::kIdle) end_stream();
  const Receiver::Went went = receiver_.discard();
  if ((fin_sent_ && went == Receiver::Went::kEnded) || Clock::now() >= linger_until_) {
    down(fault_);
    return Next::kWait;
  }
  processor_.wake_by(*this, linger_until_);
  return went == Receiver::Went::kOn ? Next::kGoOn : Next::kWait;
}

// A reset would only tell the peer that we are gone, not that our disk is full. It may have much on its way,
// which is thrown away.
void Carrier::begin_last_word(const Error& error) {
  notice_ready();
  fault_ = error;
  phase_ = Phase::kLastWord;
  messages_.log.choke();
  linger_until_ = Clock::now() + std::min<Clock::duration>(kLastWord, messages_.stall_timeout());
  user_.carrier_choked(error);
}

Served::Next Carrier::say_last_word() {
  const Clock::time_point now = Clock::now();
  const bool more = transmit_on(now);
  const Receiver::Went went = receiver_.discard();
  if (went == Receiver::Went::kEnded || now >= linger_until_) {
    down(fault_);
    return Next::kWait;
  }
  processor_.wake_by(*this, linger_until_);
  return more || went == Receiver::Went::kOn ? Next::kGoOn : Next::kWait;
}

void Carrier::check_times(Clock::time_point now) {
  if (awaits_ready_ && now >= handshake_by_) {
    throw Error("TIMEOUT", peer_ +
                               " asked for peer-to-peer setup but has not sent its ready-to-receive message "
                               "in time");
  }
  // While one end moves nothing has to come, or to be taken.
  if (!messages_.stopped) {
    receiver_.check_stall(now);
    if (!send_error_) transmitter_.check_stall(now);
  }
  if (is_up_ && drain_by_ && now >= *drain_by_) check_drain();
}

void Carrier::check_drain() {
  int unacknowledged = 0;
  // The end of the stream counts as a byte.
  if (!fin_sent_ || (ioctl(socket_.get(), SIOCOUTQ, &unacknowledged) == 0 && unacknowledged > 1)) {
    throw Error("TIMEOUT", peer_ + " has not taken the last messages within " +
                               std::to_string(messages_.options.stall_timeout_ms) + " ms of the disconnect");
  }
  down(std::nullopt);
}

void Carrier::set_alarm(Clock::time_point now) {
  const auto by = [this](std::optional<Clock::time_point> when) {
    if (when) processor_.wake_by(*this, *when);
  };
  if (!messages_.stopped) {
    by(receiver_.next_look(now));
    by(transmitter_.next_look(now));
  }
  if (is_up_) by(drain_by_);
  if (awaits_ready_) by(handshake_by_);
  // Where the socket is full the acknowledgement leaves as soon as it is not.
  if (messages_.log.on() && writable_ && !fin_sent_) by(messages_.log.ack_by());
  if (is_up_ && now < first_send_) by(first_send_);
}

// As far as it goes without waiting: a peer that is not told takes the end for a cut.
void Carrier::say_end() noexcept {
  if (phase_ != Phase::kOpen || !is_up_ || fin_sent_ || send_error_ || transmitter_.say_end()) return;
  try {
    transmitter_.transmit(1);
  } catch (const std::exception&) {
  }
}

void Carrier::freeze(bool frozen) {
  frozen_ = frozen;
  if (!frozen) processor_.resume(*this);
}

void Carrier::leave_rest() {
  transmitter_.report();
  transmitter_.leave_rest();
}

void Carrier::say_last(const fabric::Bytes& control) noexcept {
  if (phase_ != Phase::kOpen || !is_up_ || fin_sent_ || send_error_) return;
  try {
    messages_.controls.assign(1, {control, false});
    transmitter_.transmit(1);
    end_stream();
  } catch (const std::exception&) {
  }
  messages_.controls.clear();
}

void Carrier::go_on_sending() {
  if (phase_ == Phase::kOpen) processor_.resume(*this);
}

void Carrier::down(const std::optional<Error>& reason) {
  if (phase_ == Phase::kDown) return;
  if (!reason) say_end();
  give_up();
  user_.carrier_down(reason);
}

void Carrier::give_up() {
  if (phase_ == Phase::kDown) return;
  phase_ = Phase::kDown;
  transmitter_.leave_rest();
  unwatch(watched_);
  dialling_.reset();  // which may kick until it is gone
  processor_.forget(*this);
  answer_.reset();
  user_.carrier_closing();
  if (receiver_.truncated()) {
    linger reset{1, 0};
    setsockopt(socket_.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  }
  socket_.reset();
}

void Carrier::refuse(const WireFault& fault) {
  begin_terminate(fault);
  processor_.resume(*this);
}

}  // namespace rdma_migrate::iwarp
