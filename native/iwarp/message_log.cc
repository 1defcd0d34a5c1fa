#include "iwarp/message_log.h"

#include <algorithm>
#include <utility>

namespace rdma_migrate::iwarp {

void MessageLog::start(LoggedMessage message) {
  if (message.response) ++responses_;
  log_.push_back(std::move(message));
  ++started_;
}

void MessageLog::emit() {
  ++emitted_;
  highest_ = std::max(highest_, acked_ + emitted_);
}

bool MessageLog::acknowledge(uint64_t rx_seq) {
  if (rx_seq < acked_ || rx_seq - acked_ > emitted_) return false;
  const uint64_t count = rx_seq - acked_;
  drop(count);
  started_ -= count;
  emitted_ -= count;
  return true;
}

void MessageLog::drop(uint64_t count) {
  for (; count != 0; --count) {
    if (log_.front().response) {
      --responses_;
    } else {
      ++acknowledged_requests_;
    }
    log_.pop_front();
    ++acked_;
  }
}

size_t MessageLog::take_acknowledged() { return std::exchange(acknowledged_requests_, 0); }

bool MessageLog::ack_is_due() const {
  return greets_ || silence_is_over_ || rx_seq_ - said_ >= kAckMessages ||
         (owes_ack() && unsaid_bytes_ >= kAckBytes);
}

void MessageLog::say_ack() {
  greets_ = false;
  said_ = rx_seq_;
  unsaid_bytes_ = 0;
  silence_is_over_ = false;
  ack_by_.reset();
}

void MessageLog::tick(Clock::time_point now, bool is_dry) {
  if (!owes_ack()) return;
  if (!ack_by_) ack_by_ = now + kAckSilence;
  silence_is_over_ = now >= *ack_by_ || is_dry;
}

void MessageLog::restore(Saved saved) {
  on_ = true;
  acked_ = saved.acked;
  highest_ = saved.highest;
  rx_seq_ = said_ = saved.rx_seq;
  log_ = std::move(saved.messages);
  for (const LoggedMessage& each : log_) {
    if (each.response) ++responses_;
  }
}

bool MessageLog::can_resume(uint64_t peer_rx_seq, uint64_t peer_tx_next) const {
  return peer_rx_seq >= acked_ && peer_rx_seq <= highest_ && peer_tx_next > rx_seq_;
}

bool MessageLog::resume(uint64_t peer_rx_seq, uint64_t peer_tx_next) {
  if (!can_resume(peer_rx_seq, peer_tx_next)) return false;
  drop(peer_rx_seq - acked_);
  started_ = emitted_ = 0;
  greets_ = false;
  said_ = rx_seq_;  // RESUME or RESUMED says so
  unsaid_bytes_ = 0;
  silence_is_over_ = false;
  ack_by_.reset();
  controls_sent_ = controls_received_ = 1;
  return true;
}

}  // namespace rdma_migrate::iwarp
