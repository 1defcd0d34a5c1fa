// Of a resumable queue pair: what is sent again, and what is said besides messages.
#include "iwarp/resume_frames.h"
#include "iwarp/transmitter.h"

namespace rdma_migrate::iwarp {

bool Transmitter::has_work() {
  return job_ || failure_ || messages_.log.again() != nullptr || !messages_.read_jobs.empty() || take_more();
}

// It costs little with something that leaves anyway, and goes before it: a SEND that says that the answer to
// a READ is there never overtakes the acknowledgement of that answer.
void Transmitter::append_due_ack() {
  if (messages_.log.owes_ack() && (messages_.log.ack_is_due() || has_work())) append_ack();
}

void Transmitter::append_ack() {
  uint8_t payload[kAckSize];
  encode_ack(messages_.log.rx_seq(), payload);
  append_control(payload);
  messages_.log.say_ack();
}

void Transmitter::append_controls() {
  auto& controls = messages_.controls;
  while (!controls.empty() && (!controls.front().at_rest || is_at_rest()) &&
         batch_->fits(TxBatch::kMaxInline)) {
    append_control(controls.front().payload);
    controls.pop_front();
  }
}

void Transmitter::append_control_end() {
  if (messages_.log.owes_ack()) append_ack();
  uint8_t payload[kEndSize];
  encode_end(payload);
  append_control(payload);
}

void Transmitter::append_control(std::span<const uint8_t> payload) {
  batch_->append(control_header(messages_.log.next_control()),
                 {.address = reinterpret_cast<uintptr_t>(payload.data())}, payload.size());
}

// As it was, with its old number. A READ's sink is where it was: the region's wire base does not move.
void Transmitter::start_again(const LoggedMessage& message) {
  const uint32_t length = message.response ? message.response->length : message.request.length;
  messages_.counters.payload_resent.fetch_add(length, std::memory_order_relaxed);
  if (message.response) return start_response(*message.response);
  if (message.request.opcode == fabric::Opcode::kRdmaRead) {
    check_sink(message.request);
    return ask(message.request, message.msn);
  }
  start_message(message.request, message.msn);
}

// Until those before it are acknowledged, the request that failed is not the oldest one.
bool Transmitter::awaits_acks_before_failure() const { return messages_.log.emitted() != 0; }

void Transmitter::leave_rest() {
  messages_.send_queue.give_back(taken_.size() - next_taken_);
  taken_.clear();
  next_taken_ = 0;
}

}  // namespace rdma_migrate::iwarp
