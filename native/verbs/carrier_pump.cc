// A carrier that is up: completions, rdma_cm's events, and the watch over progress.
#include <algorithm>
#include <array>

#include "verbs/carrier.h"
#include "verbs/errors.h"

namespace rdma_migrate::verbs {
namespace {

constexpr size_t kBatch = 16;
// After a completion the next one is often near: looking for it costs less than sleeping and being woken.
constexpr std::chrono::microseconds kSpin{20};
constexpr std::chrono::seconds kTick{1};
constexpr std::chrono::seconds kLinger{2};  // for the peer to answer a disconnect
// Between requests that came back flushed and the event that says why.
constexpr std::chrono::milliseconds kReasonPatience{1000};
constexpr std::chrono::milliseconds kFaultPatience{1000};  // for what a stopped queue pair gives back
// A port that comes back sooner loses nothing: the device sends again what was not acknowledged.
constexpr std::chrono::seconds kPortPatience{5};

}  // namespace

fabric::Served::Next Carrier::pump(unsigned reasons) {
  if ((reasons & kReadable) != 0) {
    handle_events();
    queue_pair_->take_completion_events();
    armed_ = false;
  }
  bool busy = poll_queues();
  const Clock::time_point now = Clock::now();
  if (busy) {
    spin_until_ = now + kSpin;
  } else if (now < spin_until_) {
    return Next::kGoOn;
  } else {
    busy = find_more(now);
  }
  if (first_send_ && now >= *first_send_) {
    first_send_.reset();
    queues_.open_sends();
  }
  if (now >= next_tick_) tick(now);
  if (std::optional<Error> refusal = failure_ ? std::nullopt : queues_.refusal()) {
    failure_ = std::move(refusal);
    oldest_failed_ = failure_->code() == "INVALID_ARGUMENT";
  }
  if (failure_) {
    end(failure_);
  } else if (disconnect_sent_ && now >= linger_until_) {
    end(std::nullopt);  // also for a peer that goes on sending
  } else if (!busy) {
    judge(now);
  }
  if (phase_ != Phase::kUp) return Next::kWait;
  if (!busy) set_alarm();
  return busy ? Next::kGoOn : Next::kWait;
}

// Before sleeping. True: something has come since the last look.
bool Carrier::find_more(Clock::time_point now) {
  if (armed_) return false;
  queue_pair_->arm();
  armed_ = true;
  if (!poll_queues()) return false;
  spin_until_ = now + kSpin;
  return true;
}

bool Carrier::poll_queues() {
  std::array<ibv_wc, kBatch> completions;
  const size_t received = queue_pair_->poll_recv(completions);
  if (received != 0) take_recvs(std::span(completions).first(received));
  const size_t sent = queue_pair_->poll_send(completions);
  if (sent != 0) take_sends(std::span(completions).first(sent));
  // What the peer sends is no progress of what it has still to take.
  if (sent != 0) progress_ = Clock::now();
  return received + sent != 0;
}

void Carrier::take_sends(std::span<const ibv_wc> completions) {
  due_.clear();
  const std::optional<Error> failure = queues_.complete_sends(completions, peer_, due_);
  if (!disconnect_sent_ && phase_ != Phase::kFlushing) note(failure);
  for (const ibv_wc& completion : completions) {
    if (completion.status == IBV_WC_WR_FLUSH_ERR && !flushed_since_) flushed_since_ = Clock::now();
  }
  if (!due_.empty()) user_.carrier_sent(due_);
}

void Carrier::take_recvs(std::span<const ibv_wc> completions) {
  due_.clear();
  note(queues_.complete_recvs(completions, peer_, due_));
  for (const ibv_wc& completion : completions) {
    if (completion.status == IBV_WC_WR_FLUSH_ERR && !flushed_since_) flushed_since_ = Clock::now();
    // A peer that has sent something takes messages.
    if (completion.status == IBV_WC_SUCCESS && first_send_) first_send_ = Clock::time_point{};
  }
  if (!due_.empty()) user_.carrier_received(due_);
}

void Carrier::note(const std::optional<Error>& failure) {
  if (failure && !failure_) failure_ = failure;
}

void Carrier::handle_events() {
  while (const std::optional<CmEvent> event = queue_pair_->id().next_event()) {
    if (event->type == RDMA_CM_EVENT_DISCONNECTED) peer_gone_ = true;
    if (event->type == RDMA_CM_EVENT_DEVICE_REMOVAL) {
      failure_ = Error("CONNECTION_LOST", "the RDMA device " + queue_pair_->device().name() + " was removed");
    }
  }
}

// Nothing has completed: is it over, and why?
void Carrier::judge(Clock::time_point now) {
  if (std::optional<Error> fault = device_fault()) {
    reason_ = std::move(fault);
    phase_ = Phase::kFaulted;
    flush_until_ = now + kFaultPatience;
    return flush_on();
  }
  if (peer_gone_) {
    // A completion that came together with the disconnect, or before it, is still in its queue.
    while (poll_queues()) {
    }
    return end(failure_ ? failure_ : peer_end());
  }
  if (flushed_since_ && !disconnect_sent_ && now - *flushed_since_ >= kReasonPatience)
    return end(queue_pair_failure());
  if (draining_ && drained(now)) end(std::nullopt);
}

void Carrier::set_alarm() {
  Clock::time_point until = next_tick_;
  if (disconnect_sent_) until = std::min(until, linger_until_);
  if (flushed_since_) until = std::min(until, *flushed_since_ + kReasonPatience);
  if (first_send_) until = std::min(until, *first_send_);
  processor_.wake_by(*this, until);
}

void Carrier::tick(Clock::time_point now) {
  const auto stall = std::chrono::milliseconds(options_.stall_timeout_ms);
  next_tick_ = now + std::clamp<Clock::duration>(stall / 4, std::chrono::milliseconds(20), kTick);
  // Also under load, when nobody waits for events.
  handle_events();
  check_stall(now);
  check_drain(now);
  check_port(now);
}

// What was posted before disconnect() has a stall timeout to leave, however the peer goes on.
void Carrier::check_drain(Clock::time_point now) {
  if (!draining_ || disconnect_sent_) return;
  if (now - *drain_since_ < std::chrono::milliseconds(options_.stall_timeout_ms) || failure_) return;
  failure_ = Error("TIMEOUT", peer_ + " has not taken the last messages within " +
                                  std::to_string(options_.stall_timeout_ms) + " ms of the disconnect");
}

void Carrier::check_stall(Clock::time_point now) {
  const auto stall = std::chrono::milliseconds(options_.stall_timeout_ms);
  if (!queues_.expects_send()) {
    // Nothing has happened for a while: is the peer still there? A device never says so by itself.
    if (now - progress_ < stall / 3) return;
    queues_.probe();
    progress_ = now;
    return;
  }
  if (disconnect_sent_ || failure_ || now - progress_ < stall) return;
  const std::string port = queue_pair_->port_problem();
  failure_ =
      Error("TIMEOUT", peer_ + " has taken no data for " + std::to_string(options_.stall_timeout_ms) + " ms" +
                           (port.empty() ? "" : " and " + port) + "; check the peer and the network");
}

void Carrier::check_port(Clock::time_point now) {
  const std::string problem = queue_pair_->port_problem();
  if (problem.empty()) {
    port_down_since_.reset();
  } else if (!port_down_since_) {
    port_down_since_ = now;
  } else if (now - *port_down_since_ >= kPortPatience && !failure_) {
    failure_ = Error("CONNECTION_LOST", problem + ": check the cable and the switch, or ip link show");
  }
}

std::optional<Error> Carrier::device_fault() const {
  if (disconnect_sent_) return std::nullopt;
  const std::string who = "the device " + queue_pair_->device().name() + " ended the connection to " + peer_;
  switch (device_events_->fault()) {
    case DeviceEvents::Fault::kNone:
      return std::nullopt;
    case DeviceEvents::Fault::kAccess:
      return Error("REMOTE_ACCESS_ERROR", who + ": the peer used memory here that it has no right to");
    case DeviceEvents::Fault::kDevice:
      return Error("CONNECTION_LOST", who + ": the device has failed; see the kernel's log");
    case DeviceEvents::Fault::kFailed:
      break;
  }
  return Error("WIRE_ERROR",
               who + ": the peer broke the protocol, or the device failed; see the kernel's log");
}

// The peer disconnected, or its process ended and its kernel did. In order unless it had still to take
// something.
std::optional<Error> Carrier::peer_end() {
  // What the device has to say came before the peer's disconnect, if both came at once.
  DeviceEvents::take(queue_pair_->device().context());
  if (std::optional<Error> fault = device_fault()) return fault;
  // InfiniBand and RoCE: a disconnect leaves the queue pair as it is. The peer only follows what this side's
  // device did.
  if (!disconnect_sent_ && !queue_pair_->id().is_iwarp() && queue_pair_->in_error_state())
    return queue_pair_failure();
  if (disconnect_sent_ || !queues_.sends_lost()) return std::nullopt;
  return Error("CONNECTION_LOST",
               peer_ + " ended the connection while requests were under way; see its log for the reason");
}

// Requests came back and the peer has not disconnected: this side's device ended it, which it does for what
// the peer did.
Error Carrier::queue_pair_failure() const {
  const std::string port = queue_pair_->port_problem();
  if (!port.empty()) return Error("CONNECTION_LOST", "the connection to " + peer_ + " broke: " + port);
  return Error("REMOTE_ACCESS_ERROR",
               "the device " + queue_pair_->device().name() + " ended the connection to " + peer_ +
                   ": the peer used memory here that it has no right to, or broke the protocol");
}

bool Carrier::drained(Clock::time_point now) {
  if (disconnect_sent_) return now >= linger_until_;
  if (!queues_.sends_idle()) {
    if (!queues_.expects_send()) queues_.probe();
    return false;
  }
  queue_pair_->disconnect();
  disconnect_sent_ = true;
  linger_until_ = now + kLinger;
  return false;
}

}  // namespace rdma_migrate::verbs
