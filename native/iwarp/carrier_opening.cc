// How a carrier begins: it dials or answers, up to the first message.
#include <sys/socket.h>

#include <cerrno>

#include "fabric/work_request.h"
#include "iwarp/carrier.h"
#include "iwarp/tcp.h"

namespace rdma_migrate::iwarp {

void Carrier::dial(const fabric::Endpoint& endpoint, fabric::Bytes private_data) {
  handshake_by_ = Clock::now() + std::chrono::milliseconds(messages_.options.connect_timeout_ms);
  dialling_ = std::make_unique<Dialling>(
      endpoint, messages_.options, std::move(private_data), handshake_by_, [this] { processor_.kick(*this); },
      [this](int socket) { unwatch(socket); });
  phase_ = Phase::kDialling;
}

void Carrier::answer(Answer answer) {
  handshake_by_ = Clock::now() + std::chrono::milliseconds(messages_.options.connect_timeout_ms);
  unsent_ = encode(answer.reply);
  answer_ = std::move(answer);
  set_socket_options(answer_->socket.get(), messages_.stall_timeout());
  watch(answer_->socket.get());
  phase_ = Phase::kAnswering;
}

void Carrier::go_on(UniqueFd socket, bool crc, const std::optional<fabric::Protection>& protection) {
  watch(socket.get());
  socket_ = std::move(socket);
  receiver_.open(socket_.get(), crc, false);
  transmitter_.open(socket_.get(), crc);
  if (protection) protect_from_start(*protection);
  phase_ = Phase::kOpen;
  is_up_ = true;
  processor_.resume(*this);
}

Served::Next Carrier::dial_on() {
  const bool done = dialling_->step(Clock::now());
  watch(dialling_->fd());
  if (!done) {
    processor_.wake_by(*this, dialling_->deadline());
    return Next::kWait;
  }
  open(dialling_->take_socket(), dialling_->negotiated());
  dialling_.reset();
  become_up();
  return move_messages();
}

Served::Next Carrier::answer_on() {
  while (!unsent_.empty()) {
    const ssize_t sent =
        send(answer_->socket.get(), unsent_.data(), unsent_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR)
      throw Error("CONNECTION_LOST", "the connection to " + peer_ + " broke during the handshake", errno);
    if (sent < 0 && Clock::now() >= handshake_by_)
      throw Error("TIMEOUT", peer_ + " did not take the answer to its request in time");
    if (sent < 0) {
      processor_.wake_by(*this, handshake_by_);
      return Next::kWait;
    }
    unsent_.erase(unsent_.begin(), unsent_.begin() + sent);
  }
  if (!answer_->may_send_at_once) first_send_ = Clock::now() + fabric::kFirstSendPause;
  open(std::move(answer_->socket), negotiated_by_responder(answer_->request, answer_->reply));
  answer_.reset();
  if (!awaits_ready_) become_up();
  return move_messages();
}

void Carrier::open(UniqueFd socket, Negotiated negotiated) {
  socket_ = std::move(socket);
  negotiated_ = std::move(negotiated);
  messages_.ord = negotiated_.ord;
  messages_.ird = negotiated_.ird;
  awaits_ready_ = negotiated_.awaits_ready;
  receiver_.open(socket_.get(), negotiated_.crc, awaits_ready_);
  transmitter_.open(socket_.get(), negotiated_.crc);
  if (protection_) protect_from_start(*std::exchange(protection_, std::nullopt));
  phase_ = Phase::kOpen;
}

void Carrier::protect_from_start(const fabric::Protection& protection) {
  transmitter_.protect(RecordWriter(protection));
  receiver_.protect(protection);
}

void Carrier::become_up() {
  awaits_ready_ = false;
  is_up_ = true;
  // What was posted has its time to leave from here on, not from a disconnect during the handshake.
  if (drain_by_) drain_by_ = Clock::now() + fabric::kFirstSendPause + messages_.stall_timeout();
  user_.carrier_up(negotiated_, socket_.get());
}

// The queue pair is established before it hears of what came with the ready-to-receive message.
void Carrier::notice_ready() {
  if (awaits_ready_ && receiver_.is_ready()) become_up();
}

}  // namespace rdma_migrate::iwarp
