#include "tunnel/stream.h"

#include <poll.h>
#include <signal.h>

#include <algorithm>
#include <utility>

#include "engine/work_request_id.h"
#include "thread.h"

namespace rdma_migrate::tunnel {
namespace {

// What one WRITE carries at most: enough that its costs do not count, little enough that several are under
// way in a ring.
constexpr uint64_t kPiece = 256 * 1024;
// WRITEs under way; small ones are put together meanwhile.
constexpr size_t kMostWrites = 128;
// The peer's ring, as far as this end will use it, and what is worth a WRITE.
constexpr uint32_t kLeastRing = 4096, kMostRing = 1u << 30;
// For the peer to make room for a RESET; and for the provider to say why it takes nothing any more, of which
// a TERMINATE takes a second.
constexpr std::chrono::seconds kLastWord{1}, kWhyRefused{2};

}  // namespace

Stream::Stream(std::shared_ptr<engine::Endpoint> endpoint, uint32_t ring_bytes)
    : endpoint_(std::move(endpoint)),
      ring_bytes_(ring_bytes),
      ledger_(ring_bytes),
      rings_(std::make_shared<const Rings>(endpoint_->domain(), ring_bytes)) {
  endpoint_->keep(rings_);
}

Stream::~Stream() { close(); }

void Stream::start(std::unique_ptr<SocketPair> sockets, const RemoteRing& peer, const StreamLimits& limits,
                   OnEnd on_end) {
  if (peer.bytes < kLeastRing || peer.bytes > kMostRing || peer.address > UINT64_MAX - peer.bytes)
    throw Error("PROTOCOL_ERROR", "the peer's ring has " + std::to_string(peer.bytes) +
                                      " bytes at an address where they do not fit, or is no ring");
  sockets_ = std::move(sockets);
  peer_ring_ = peer;
  limits_ = limits;
  on_end_ = std::move(on_end);
  heard_ = told_ = Clock::now();
  payload_ = endpoint_->queue_pair().counters().payload_received.load();
  endpoint_->settle_in(*this);
  try {
    thread_ = start_thread([this] { run(); });
  } catch (...) {
    endpoint_->settle_out();
    throw;
  }
}

void Stream::reset(const Error& reason) {
  {
    std::lock_guard lock(mutex_);
    if (!inbox_.reset) inbox_.reset = reason;
    inbox_.fresh = true;
  }
  wake();
}

void Stream::close() {
  if (thread_.joinable()) {
    reset(Error("CANCELLED", "the stream was closed"));
    thread_.join();
  }
  rings_.reset();
}

void Stream::message(const fabric::Bytes& message) {
  {
    std::lock_guard lock(mutex_);
    const auto state = decode(message);
    const auto wrong = state ? ledger_.take(*state)
                             : std::optional<std::string>("a message of " + std::to_string(message.size()) +
                                                          " bytes that no stream has");
    if (wrong && !inbox_.fault)
      inbox_.fault = Error("PROTOCOL_ERROR", "what the peer says of the stream cannot be: " + *wrong);
    inbox_.fresh = inbox_.heard = true;
  }
  wake();
}

void Stream::written(uint64_t value) {
  {
    std::lock_guard lock(mutex_);
    inbox_.written = value;
    inbox_.fresh = true;
  }
  if (awaits_write_.exchange(false)) wake();
}

void Stream::sent() {
  if (!awaits_send_.exchange(false)) return;
  {
    std::lock_guard lock(mutex_);
    inbox_.fresh = true;  // the stream's thread may be about to sleep
  }
  wake();
}

void Stream::ended(const Error* reason) {
  {
    std::lock_guard lock(mutex_);
    inbox_.ended = inbox_.fresh = true;
    if (reason != nullptr) inbox_.reason = *reason;
  }
  wake();
}

void Stream::wake() {
  if (asleep_.exchange(false)) wake_event_.signal();
}

// Whoever writes into a pipe without a reader is told by EPIPE, not by a signal.
void Stream::run() {
  sigset_t pipe;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
  while (!over_) {
    look();
    if (over_) break;
    bool moved = pull();
    moved = push() || moved;
    moved = tell() || moved;
    if (!moved && !over_) wait();
  }
  conclude();
}

// Takes what the provider's threads have left.
void Stream::look() {
  std::lock_guard lock(mutex_);
  if (!std::exchange(inbox_.fresh, false)) return;
  if (std::exchange(inbox_.heard, false)) {
    heard_ = Clock::now();
    payload_ = endpoint_->queue_pair().counters().payload_received.load();
  }
  peer_ = ledger_.peer();
  completed_ = inbox_.written;
  while (!under_way_.empty() && under_way_.front() <= completed_) under_way_.pop_front();
  const bool delivered = (peer_.flags & State::kDelivered) != 0 && told_all_;
  if (inbox_.fault) {
    fail(*inbox_.fault, Reset::kFault);
  } else if (delivered) {
    over_ = true;
  } else if ((peer_.flags & State::kReset) != 0) {
    const bool cancelled = peer_.reason == static_cast<uint32_t>(Reset::kCancelled);
    fail(Error("PEER_ERROR", cancelled ? "the stream was cancelled at the other end"
                                       : "the stream was reset at the other end: its socket failed or was "
                                         "closed before all was read"),
         Reset::kSocket);
  } else if (inbox_.reset) {
    fail(*inbox_.reset, Reset::kCancelled);
  } else if (inbox_.ended) {
    fail(inbox_.reason ? *inbox_.reason : Error("CONNECTION_LOST", "the other end of the tunnel has gone"),
         Reset::kSocket);
  }
}

// From the socket into the peer's ring.
bool Stream::pull() {
  const uint64_t here = ring_bytes_ - (written_ - completed_);
  const uint64_t there = peer_ring_.bytes - (written_ - peer_.consumed);
  const uint64_t room = std::min({kPiece, here, there, ring_bytes_ - written_ % ring_bytes_,
                                  peer_ring_.bytes - written_ % peer_ring_.bytes});
  awaits_write_.store(here == 0 || under_way_.size() >= kMostWrites);
  wants_input_ = !refused_ && !input_ended_ && room > 0 && under_way_.size() < kMostWrites;
  if (!wants_input_) return false;
  const auto got = sockets_->read({rings_->outgoing.data() + written_ % ring_bytes_, room});
  switch (got.outcome) {
    case SocketPair::Outcome::kMoved:
      write_to_peer(got.bytes);
      return true;
    case SocketPair::Outcome::kEnd:
      input_ended_ = true;
      wants_input_ = false;
      return true;
    case SocketPair::Outcome::kFailed:
      fail(Error("PEER_ERROR", "the local end of the stream has failed", got.sys_errno), Reset::kSocket);
      return true;
    default:
      return false;
  }
}

void Stream::write_to_peer(uint64_t bytes) {
  fabric::SendWorkRequest request;
  request.wr_id = engine::make_wr_id(engine::Owner::kStream, written_ + bytes);
  request.opcode = fabric::Opcode::kRdmaWrite;
  request.address = rings_->outgoing.address() + written_ % ring_bytes_;
  request.length = static_cast<uint32_t>(bytes);
  request.lkey = rings_->outgoing_region->lkey();
  request.remote_address = peer_ring_.address + written_ % peer_ring_.bytes;
  request.rkey = peer_ring_.rkey;
  try {
    if (!endpoint_->queue_pair().post_send(request))
      return fail(Error("INTERNAL", "the send queue has no room for a stream's WRITE"), Reset::kFault);
  } catch (const Error& error) {
    if (error.code() != "CONNECTION_CLOSED") return fail(error, Reset::kFault);
    refused_ = Clock::now();
    return;
  }
  under_way_.push_back(written_ + bytes);
  written_ += bytes;
  sent_bytes_.store(written_, std::memory_order_relaxed);
}

// From this ring to the socket.
bool Stream::push() {
  if (over_) return false;
  bool moved = false;
  wants_output_ = false;
  while (consumed_ < peer_.written) {
    const uint64_t at = consumed_ % ring_bytes_;
    const uint64_t length = std::min({peer_.written - consumed_, ring_bytes_ - at, kPiece});
    const auto put = sockets_->write({rings_->ring.data() + at, length});
    if (put.outcome == SocketPair::Outcome::kFailed) {
      fail(Error("PEER_ERROR", "the local end of the stream takes no more", put.sys_errno), Reset::kSocket);
      return true;
    }
    if (put.outcome == SocketPair::Outcome::kWait) {
      wants_output_ = true;
      return moved;
    }
    moved = true;
    consumed_ += put.bytes;
    received_bytes_.store(consumed_, std::memory_order_relaxed);
    if (consumed_ - told_consumed_ >= ring_bytes_ / 4) break;
  }
  if (consumed_ == peer_.written && (peer_.flags & State::kEnd) != 0 && !output_ended_) {
    sockets_->end_output();
    output_ended_ = moved = true;
  }
  return moved;
}

State Stream::standing() const {
  State state;
  state.written = written_;
  state.consumed = consumed_;
  if (input_ended_) state.flags |= State::kEnd;
  if (output_ended_) state.flags |= State::kDelivered;
  return state;
}

// Says where this end stands, when there is news and room for it.
bool Stream::tell() {
  if (over_) return false;
  const State state = standing();
  const auto now = Clock::now();
  std::lock_guard lock(mutex_);
  const State& told = ledger_.told();
  const bool news = state.written != told.written || state.flags != told.flags ||
                    state.consumed - told.consumed >= ring_bytes_ / 4;
  if (!ledger_.is_due(news || now - told_ >= limits_.alive) || !send(state)) return false;
  told_ = now;
  told_consumed_ = consumed_;
  told_all_ = input_ended_ && output_ended_;
  over_ = told_all_ && (peer_.flags & State::kDelivered) != 0;
  return true;
}

// Under the lock: an answer to it may come before it is counted.
bool Stream::send(const State& state) {
  Ledger next = ledger_;
  const auto bytes = encode(next.say(state));
  awaits_send_.store(true);
  try {
    if (!endpoint_->send(bytes, engine::kNobody)) return false;
  } catch (const Error&) {
    return false;  // it has ended, and that is told
  }
  awaits_send_.store(false);
  ledger_ = next;
  return true;
}

void Stream::wait() {
  asleep_.store(true);
  auto until = heard_ + limits_.silence;
  {
    std::lock_guard lock(mutex_);
    if (inbox_.fresh) {
      asleep_.store(false);
      return;
    }
    // One that had no slot is sent when there is one.
    if (ledger_.may_send_news() && !awaits_send_.load()) until = std::min(until, told_ + limits_.alive);
  }
  if (refused_) until = std::min(until, *refused_ + kWhyRefused);
  pollfd fds[] = {{wake_event_.fd(), POLLIN, 0},
                  {wants_input_ ? sockets_->in() : -1, POLLIN, 0},
                  {wants_output_ ? sockets_->out() : -1, POLLOUT, 0}};
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
  poll(fds, std::size(fds), static_cast<int>(std::clamp<int64_t>(left, 0, 60'000)));
  asleep_.store(false);
  if (fds[0].revents != 0) wake_event_.drain();
  check_silence(Clock::now());
}

// What is on its way into the ring is a sign of life before it is told of.
void Stream::check_silence(Clock::time_point now) {
  if (refused_ && now - *refused_ >= kWhyRefused)
    return fail(Error("CONNECTION_LOST", "the connection to the other end of the tunnel has been closed"),
                Reset::kFault);
  if (now - heard_ < limits_.silence) return;
  const uint64_t payload = endpoint_->queue_pair().counters().payload_received.load();
  if (std::exchange(payload_, payload) != payload) {
    heard_ = now;
    return;
  }
  {
    std::lock_guard lock(mutex_);
    if (inbox_.fresh) return;
  }
  fail(Error("TIMEOUT", "the other end of the tunnel has said nothing for " +
                            std::to_string(limits_.silence.count() / 1000.0).substr(0, 5) +
                            " s. Check that it is alive and not stopped, and the network in between"),
       Reset::kSilence);
}

void Stream::fail(const Error& reason, Reset why) {
  if (!error_) error_ = reason;
  why_ = why;
  over_ = true;
}

void Stream::conclude() {
  if (error_) {
    sockets_->abort();
    tell_reset();
  }
  sockets_.reset();
  endpoint_->settle_out();
  on_end_(error_ ? &*error_ : nullptr);
}

// Behind what is under way, so that what was posted before has left when it arrives. There may be no room for
// it yet, and none ever from a peer that says nothing.
void Stream::tell_reset() {
  const auto until = Clock::now() + kLastWord;
  const bool peer_knows = (peer_.flags & State::kReset) != 0;
  for (;;) {
    asleep_.store(true);
    {
      std::lock_guard lock(mutex_);
      inbox_.fresh = false;
      State last = ledger_.told();
      last.flags |= State::kReset;
      last.reason = static_cast<uint32_t>(why_);
      if (inbox_.ended || (ledger_.may_answer() && send(last)) || inbox_.fault || peer_knows) break;
    }
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
    if (left <= 0) break;
    pollfd fd{wake_event_.fd(), POLLIN, 0};
    if (poll(&fd, 1, static_cast<int>(left)) > 0) wake_event_.drain();
  }
  asleep_.store(false);
}

}  // namespace rdma_migrate::tunnel
