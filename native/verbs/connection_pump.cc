// A connection that is up: completions, rdma_cm's events, and the watch over progress.
#include <poll.h>

#include <algorithm>
#include <array>

#include "verbs/connection.h"
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
// A port that comes back sooner loses nothing: the device sends again what was not acknowledged.
constexpr std::chrono::seconds kPortPatience{5};
constexpr uint64_t kProbe = UINT64_MAX;  // wr_id

}  // namespace

std::optional<Error> Connection::pump() {
  Clock::time_point spin_until{};
  progress_ = Clock::now();
  for (;;) {
    if (stopping_.load()) throw Stopped{};
    bool busy = poll_queues();
    if (!busy && Clock::now() >= spin_until) {
      queue_pair_->arm();
      busy = poll_queues();
      if (!busy && !failure_) sleep();
    }
    if (failure_) return failure_;
    const Clock::time_point now = Clock::now();
    if (busy) spin_until = now + kSpin;
    if (now >= next_tick_) tick();
    if (failure_) return failure_;
    // Also for a peer that goes on sending.
    if (disconnect_sent_ && now >= linger_until_) return std::nullopt;
    if (busy) continue;
    if (std::optional<Error> fault = device_fault()) {
      drain_completions();  // a request that failed says more
      return failure_ ? failure_ : fault;
    }
    if (peer_gone_) {
      // A completion that came together with the disconnect, or before it, is still in its queue.
      while (poll_queues()) {
      }
      return failure_ ? failure_ : peer_end();
    }
    if (flushed_since_ && !disconnect_sent_ && now - *flushed_since_ >= kReasonPatience)
      return queue_pair_failure();
    if (draining_.load() && drained()) return std::nullopt;
  }
}

bool Connection::poll_queues() {
  std::array<ibv_wc, kBatch> completions;
  const size_t received = queue_pair_->poll_recv(completions);
  for (size_t at = 0; at < received; ++at) on_recv_completion(completions[at]);
  const size_t sent = queue_pair_->poll_send(completions);
  for (size_t at = 0; at < sent; ++at) on_send_completion(completions[at]);
  // What the peer sends is no progress of what it has still to take.
  if (sent != 0) progress_ = Clock::now();
  return received + sent != 0;
}

void Connection::on_send_completion(const ibv_wc& completion) {
  const bool ok = completion.status == IBV_WC_SUCCESS;
  const bool flushed = completion.status == IBV_WC_WR_FLUSH_ERR;
  if (flushed && !flushed_since_) flushed_since_ = Clock::now();
  std::vector<fabric::Completion> due;
  {
    std::lock_guard lock(send_mutex_);
    if (!ok) note_failure(completion);
    uint64_t bytes = 0;
    if (completion.wr_id == kProbe) {
      probing_ = false;
      if (ok) bytes = send_ring_.complete_before(probe_position_, due);
    } else {
      if (!ok) ++lost_sends_;
      const auto failed = flushed ? fabric::Status::kFlushed : fabric::Status::kError;
      bytes = send_ring_.complete(completion.wr_id, ok ? fabric::Status::kSuccess : failed, due);
    }
    counters_.bytes_sent.fetch_add(bytes, std::memory_order_relaxed);
  }
  for (const fabric::Completion& each : due) events_.on_send(each);
}

// Under send_mutex_.
void Connection::note_failure(const ibv_wc& completion) {
  if (failure_ || disconnect_sent_ || stopping_.load()) return;
  const fabric::SendWorkRequest* request = send_ring_.find(completion.wr_id);
  Regions::Buffers unused{};
  if (request != nullptr && regions_->buffers(request->lkey, request->address, request->length, unused) < 0) {
    failure_ =
        Error("INVALID_ARGUMENT",
              "the memory region of a posted work request was deregistered before its bytes were sent");
  } else if (completion.status != IBV_WC_WR_FLUSH_ERR) {
    failure_ = completion_error(completion, peer_);
  }
}

void Connection::on_recv_completion(const ibv_wc& completion) {
  const bool ok = completion.status == IBV_WC_SUCCESS;
  const bool flushed = completion.status == IBV_WC_WR_FLUSH_ERR;
  if (flushed && !flushed_since_) flushed_since_ = Clock::now();
  if (!ok && !flushed && !failure_) failure_ = completion_error(completion, peer_);
  if (ok) {
    counters_.bytes_received.fetch_add(completion.byte_len, std::memory_order_relaxed);
    counters_.payload_received.fetch_add(completion.byte_len, std::memory_order_relaxed);
  }
  std::vector<fabric::Completion> due;
  {
    std::lock_guard lock(recv_mutex_);
    const auto failed = flushed ? fabric::Status::kFlushed : fabric::Status::kError;
    recv_ring_.complete(ok ? fabric::Status::kSuccess : failed, ok ? completion.byte_len : 0, due);
  }
  for (const fabric::Completion& each : due) events_.on_recv(each);
}

void Connection::handle_events() {
  while (std::optional<CmEvent> event = queue_pair_->id().next_event()) {
    if (event->type == RDMA_CM_EVENT_DISCONNECTED) peer_gone_ = true;
    if (event->type == RDMA_CM_EVENT_DEVICE_REMOVAL) {
      failure_ = Error("CONNECTION_LOST", "the RDMA device " + queue_pair_->device_name() + " was removed");
    }
  }
}

void Connection::sleep() {
  std::array<pollfd, 4> entries{{{wake_.fd(), POLLIN, 0},
                                 {queue_pair_->id().fd(), POLLIN, 0},
                                 {queue_pair_->completion_fd(), POLLIN, 0},
                                 {device_events_->fd(), POLLIN, 0}}};
  Clock::time_point until = next_tick_;
  if (disconnect_sent_) until = std::min(until, linger_until_);
  if (flushed_since_) until = std::min(until, *flushed_since_ + kReasonPatience);
  if (poll(entries.data(), entries.size(), poll_timeout(until)) <= 0) return;
  if (entries[0].revents != 0) wake_.drain();
  if (entries[1].revents != 0) handle_events();
  if (entries[2].revents != 0) queue_pair_->take_completion_events();
  if (entries[3].revents != 0) device_events_->take();
  std::lock_guard lock(send_mutex_);
  if (!give_failure_ || failure_) return;
  failure_ = give_failure_;
  oldest_failed_ = give_failure_->code() == "INVALID_ARGUMENT";
}

void Connection::tick() {
  const Clock::time_point now = Clock::now();
  const auto stall = std::chrono::milliseconds(options_.stall_timeout_ms);
  next_tick_ = now + std::clamp<Clock::duration>(stall / 4, std::chrono::milliseconds(20), kTick);
  // Also under load, when sleep() is not reached.
  handle_events();
  check_stall(now);
  check_drain(now);
  check_port(now);
}

// What was posted before disconnect() has a stall timeout to leave, however the peer goes on.
void Connection::check_drain(Clock::time_point now) {
  if (!draining_.load() || disconnect_sent_) return;
  if (!drain_since_) drain_since_ = now;
  if (now - *drain_since_ < std::chrono::milliseconds(options_.stall_timeout_ms) || failure_) return;
  failure_ = Error("TIMEOUT", peer_ + " has not taken the last messages within " +
                                  std::to_string(options_.stall_timeout_ms) + " ms of the disconnect");
}

void Connection::check_stall(Clock::time_point now) {
  const auto stall = std::chrono::milliseconds(options_.stall_timeout_ms);
  bool expecting;
  {
    std::lock_guard lock(send_mutex_);
    expecting = sends_open_ && (probing_ || send_ring_.expects_completion());
    // Nothing has happened for a while: is the peer still there? A device never says so by itself.
    if (!expecting && now - progress_ >= stall / 3) {
      probe();
      progress_ = now;
      return;
    }
  }
  if (!expecting || disconnect_sent_ || now - progress_ < stall) return;
  const std::string port = queue_pair_->port_problem();
  failure_ =
      Error("TIMEOUT", peer_ + " has taken no data for " + std::to_string(options_.stall_timeout_ms) + " ms" +
                           (port.empty() ? "" : " and " + port) + "; check the peer and the network");
}

// Under send_mutex_. A WRITE of nothing, which needs no key, behind everything that was posted: its
// completion tells that the peer's device is there and that all before it is done.
void Connection::probe() {
  if (probing_ || !sends_open_) return;
  ibv_send_wr work{};
  work.wr_id = kProbe;
  work.opcode = IBV_WR_RDMA_WRITE;
  work.send_flags = IBV_SEND_SIGNALED;
  probe_position_ = send_ring_.given();
  probing_ = queue_pair_->post_send(work) == 0;
}

void Connection::check_port(Clock::time_point now) {
  const std::string problem = queue_pair_->port_problem();
  if (problem.empty()) {
    port_down_since_.reset();
  } else if (!port_down_since_) {
    port_down_since_ = now;
  } else if (now - *port_down_since_ >= kPortPatience && !failure_) {
    failure_ = Error("CONNECTION_LOST", problem + ": check the cable and the switch, or ip link show");
  }
}

std::optional<Error> Connection::device_fault() const {
  if (disconnect_sent_) return std::nullopt;
  const std::string who = "the device " + queue_pair_->device_name() + " ended the connection to " + peer_;
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
std::optional<Error> Connection::peer_end() {
  // What the device has to say came before the peer's disconnect, if both came at once.
  device_events_->take();
  if (std::optional<Error> fault = device_fault()) return fault;
  // InfiniBand and RoCE: a disconnect leaves the queue pair as it is. The peer only follows what this side's
  // device did.
  if (!disconnect_sent_ && !queue_pair_->id().is_iwarp() && queue_pair_->in_error_state())
    return queue_pair_failure();
  std::lock_guard lock(send_mutex_);
  if (disconnect_sent_ || (lost_sends_ == 0 && !send_ring_.expects_completion())) return std::nullopt;
  return Error("CONNECTION_LOST",
               peer_ + " ended the connection while requests were under way; see its log for the reason");
}

// Requests came back and the peer has not disconnected: this side's device ended it, which it does for what
// the peer did.
Error Connection::queue_pair_failure() {
  const std::string port = queue_pair_->port_problem();
  if (!port.empty()) return Error("CONNECTION_LOST", "the connection to " + peer_ + " broke: " + port);
  return Error("REMOTE_ACCESS_ERROR",
               "the device " + queue_pair_->device_name() + " ended the connection to " + peer_ +
                   ": the peer used memory here that it has no right to, or broke the protocol");
}

bool Connection::drained() {
  if (disconnect_sent_) return Clock::now() >= linger_until_;
  {
    std::lock_guard lock(send_mutex_);
    if (!send_ring_.idle()) {
      if (!send_ring_.expects_completion()) probe();
      return false;
    }
  }
  queue_pair_->disconnect();
  disconnect_sent_ = true;
  linger_until_ = Clock::now() + kLinger;
  return false;
}

}  // namespace rdma_migrate::verbs
