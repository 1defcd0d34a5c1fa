// A queue pair without a carrier, and its way to the next one.
#include <algorithm>
#include <utility>

#include "fabric/address.h"
#include "iwarp/queue_pair.h"

namespace rdma_migrate::iwarp {
namespace {

// That have not shown who they are. An honest peer needs a place for a round trip.
constexpr size_t kMostAttachments = 4;

// Connections in a row over which no message came or was acknowledged, though something was owed: a peer that
// only attaches is no peer.
constexpr uint32_t kMostFruitless = 64;

// TCP asks ever more rarely on a way that answers nothing: a new try finds out sooner that it is back.
constexpr std::chrono::seconds kOneTry{2};

// A host that answers, and on which nobody listens: its process has a listener for as long as it lives.
constexpr std::chrono::seconds kRefusedForGood{1};

// For a queue pair that is not here yet: its owner's patience is what counts.
constexpr std::chrono::hours kLongestWait{24};

}  // namespace

void QueuePair::agree(const Negotiated& negotiated, int socket, fabric::Bytes& private_data) {
  if (!resumption_) return;
  if (resumption_->dials) resumption_->terms = take_tail(private_data);
  if (!resumption_->terms) return;
  resumption_->endpoint = fabric::peer_of(socket);
  resumption_->crc = negotiated.crc;
  // What comes before protect() is not the program's, and is told from what comes after it by nothing but the
  // place where both ends call it: until then a carrier that breaks is the end.
  if (!messages_.options.hold_until_protected || resumption_->keys) become_resumable();
}

void QueuePair::become_resumable() {
  const auto& keys = resumption_->keys;
  if (keys) resumption_->terms->ticket = keys->ticket(resumption_->dials);
  messages_.log.enable();
  if (resumption_->dials) return messages_.log.greet();
  engine_->attachables().add(resumption_->terms->id, *this);
}

void QueuePair::ask(fabric::Bytes& private_data) {
  resumption_->dials = true;
  if (!messages_.options.resume_is_asked) append_ask(private_data);
}

void QueuePair::grant(fabric::Bytes& private_data) {
  resumption_->terms = {random_bits(), random_ticket()};
  append_tail(*resumption_->terms, private_data);
}

// Each end shows the other, with its first message, that it takes it for established; without one, the other
// may be gone, and nobody come again.
void QueuePair::heard_first() {
  if (!resumption_->dials) return messages_.log.greet();
  if (const auto data = std::exchange(unannounced_, std::nullopt)) messages_.events.on_established(*data);
}

void QueuePair::carrier_lost(const Error& reason) {
  if (!messages_.log.has_heard()) return carrier_down(reason);
  processor_.retire(std::move(carrier_));
  suspend(reason);
  look_after_link();
}

void QueuePair::suspend(const Error& reason) {
  const Clock::time_point now = Clock::now();
  const uint64_t moved = messages_.log.acked() + messages_.log.rx_seq();
  const bool is_owed = !messages_.log.empty() || !messages_.pending_reads.empty();
  resumption_->fruitless = is_owed && resumption_->moved_before == moved ? resumption_->fruitless + 1 : 0;
  resumption_->moved_before = moved;
  resumption_->until = now + std::chrono::milliseconds(messages_.options.resume_window_ms);
  messages_.controls.clear();  // those that wait are said again, or answered again
  if (resumption_->following && !resumption_->following->until)
    resumption_->following->until = now + resumption_->following->said.longest_pause;
  if (drain_by_) resumption_->until = std::min(resumption_->until, *drain_by_);
  resumption_->next_try = now;
  resumption_->refused_since.reset();
  resumption_->reason = reason;
  change(fabric::QueuePairChange::kCarrierLost);
  messages_.events.on_link_lost(reason);
}

// "": it is not.
std::string QueuePair::why_hopeless(Clock::time_point now) const {
  if (resumption_->fruitless > kMostFruitless) return "; many new connections have brought nothing";
  if (now >= resumption_->until || (drain_by_ && now >= *drain_by_)) {
    return "; no new connection was made within " + std::to_string(messages_.options.resume_window_ms) +
           " ms";
  }
  if (resumption_->refused_since && now - *resumption_->refused_since >= kRefusedForGood)
    return "; nobody listens there any more: the peer's process has ended";
  return "";
}

void QueuePair::look_after_link() {
  const Clock::time_point now = Clock::now();
  if (resumption_->is_expected || is_frozen()) return;
  if (resumption_->following) {
    look_after_following(now);
    if (resumption_->following && !ended_) look_after_old_place(now);
    return;
  }
  if (const std::string why = why_hopeless(now); !why.empty()) {
    const Error& reason = *resumption_->reason;
    return carrier_down(Error(reason.code(), reason.what() + why));
  }
  processor_.wake_by(*this, resumption_->until);
  if (!resumption_->dials || !resumption_->attachments.empty()) return;
  if (now < resumption_->next_try) return processor_.wake_by(*this, resumption_->next_try);
  dial_again(now);
}

// The peer is at one of two places, and look_after_following() sees to the other one and to the time.
void QueuePair::look_after_old_place(Clock::time_point now) {
  if (resumption_->following->has_left || !resumption_->dials || !resumption_->attachments.empty()) return;
  if (now < resumption_->next_try) return processor_.wake_by(*this, resumption_->next_try);
  dial_again(now);
}

void QueuePair::dial_again(Clock::time_point now) {
  ++resumption_->epoch;
  Attachment& attachment = add_attachment(resumption_->epoch, now);
  try {
    attachment.dial(resumption_->endpoint, positions());
  } catch (const std::exception& error) {
    attachment_failed(attachment, Error("RESOURCE_LIMIT", error.what()));
  }
}

Attachment& QueuePair::add_attachment(uint64_t epoch, Clock::time_point now) {
  const ResumeContext context{resumption_->terms->ticket, resumption_->terms->id, epoch, {}, {}};
  Clock::time_point by = now + std::chrono::milliseconds(messages_.options.connect_timeout_ms);
  if (resumption_->is_expected) {
    by = now + kLongestWait;
  } else if (state() == fabric::QueuePairState::kSuspended) {
    by = std::min({by, resumption_->until, now + kOneTry});
  }
  auto& attachments = resumption_->attachments;
  if (attachments.size() == kMostAttachments) drop(*attachments.front());
  attachments.push_back(std::make_unique<Attachment>(processor_, static_cast<AttachmentUser&>(*this),
                                                     messages_.options, context, resumption_->crc, by));
  return *attachments.back();
}

void QueuePair::drop(Attachment& attachment) {
  auto& attachments = resumption_->attachments;
  const auto found = std::find_if(attachments.begin(), attachments.end(),
                                  [&](const auto& each) { return each.get() == &attachment; });
  if (found == attachments.end()) return;
  attachment.take_socket();
  processor_.retire(std::move(*found));
  attachments.erase(found);
}

Positions QueuePair::positions() const { return {messages_.log.rx_seq(), messages_.log.last() + 1}; }

void QueuePair::attach(UniqueFd socket, MpaFrame request, const Attach& attach) {
  std::lock_guard lock(mutex_);
  if (closed_) return;
  if (arrivals_.size() == kMostAttachments) arrivals_.erase(arrivals_.begin());
  arrivals_.push_back({std::move(socket), std::move(request), attach});
  processor_.kick(*this);
}

bool QueuePair::may_attach() const {
  if (resumption_->is_expected) return !ended_;
  const fabric::QueuePairState now = state();
  return !ended_ && !is_frozen() && !messages_.log.is_choked() &&
         (now == fabric::QueuePairState::kRts || now == fabric::QueuePairState::kSqd ||
          now == fabric::QueuePairState::kSuspended);
}

void QueuePair::take_arrivals() {
  std::vector<Arrival> arrivals;
  {
    std::lock_guard lock(mutex_);
    arrivals.swap(arrivals_);
  }
  for (Arrival& each : arrivals) {
    if (!may_attach() || each.attach.epoch <= resumption_->epoch) continue;
    Attachment& attachment = add_attachment(each.attach.epoch, Clock::now());
    try {
      attachment.answer(std::move(each.socket), each.request, each.attach);
    } catch (const std::exception&) {
      drop(attachment);  // others may come
    }
  }
}

void QueuePair::attachment_failed(Attachment& attachment, const Error& error) {
  if (is_way(attachment)) return way_failed(error);
  drop(attachment);
  if (!resumption_->dials || ended_) return;
  if (is_unknown(error.private_data())) {
    if (resumption_->following) {
      resumption_->following->has_left = true;
      return;
    }
    return carrier_down(Error("CONNECTION_LOST", std::string(resumption_->reason->what()) +
                                                     "; the peer has given up the queue pair meanwhile"));
  }
  if (error.code() == "TERMINATE_RECEIVED" || error.code() == "CRYPTO_UNAVAILABLE")
    return carrier_down(error);
  const Clock::time_point now = Clock::now();
  if (error.code() != "CONNECTION_REFUSED") {
    resumption_->refused_since.reset();
  } else if (!resumption_->refused_since) {
    resumption_->refused_since = now;
  }
  // At least 1: a try that fails at once must not begin the next one from within.
  const auto pause = std::chrono::milliseconds(std::max(messages_.options.resume_retry_ms, 1U));
  resumption_->next_try = now + pause;
  look_after_link();
}

// From here on nothing counts that comes over the old carrier: its receiver is gone before the peer is
// answered.
void QueuePair::attached(Attachment& attachment) {
  if (is_way(attachment)) return follow();
  if (resumption_->is_expected) return;  // until take_over()
  if (!may_attach() || (!attachment.has_dialled() && attachment.epoch() <= resumption_->epoch))
    return drop(attachment);
  if (carrier_) {
    carrier_->give_up();
    processor_.retire(std::move(carrier_));
    suspend(Error("CONNECTION_LOST", "the peer has lost the connection, and has made another one"));
    if (!why_hopeless(Clock::now()).empty()) return look_after_link();
  }
  try {
    go_on(attachment);
  } catch (const std::exception& error) {
    carrier_down(Error("RESOURCE_LIMIT", std::string("cannot go on over a new connection: ") + error.what()));
  }
}

void QueuePair::go_on(Attachment& attachment) {
  resumption_->epoch = attachment.epoch();
  const Positions peer = attachment.peer();
  const bool can_be = messages_.log.resume(peer.rx_seq, peer.tx_next);
  std::optional<fabric::Protection> protection;
  if (resumption_->keys) protection = resumption_->keys->protection(attachment.context());
  UniqueFd socket = attachment.take_socket();
  if (can_be && !attachment.has_dialled()) attachment.say_resumed(socket.get(), positions());
  while (!resumption_->attachments.empty()) drop(*resumption_->attachments.front());
  const int measurable = socket.get();
  carrier_ = std::make_unique<Carrier>(messages_, static_cast<CarrierUser&>(*this), processor_,
                                       fabric::peer_address_of(socket.get()));
  carrier_->go_on(std::move(socket), resumption_->crc, protection);
  {
    std::lock_guard lock(mutex_);
    measurable_ = measurable;
    info_.local_address = fabric::local_address_of(measurable);
    info_.peer_address = fabric::peer_address_of(measurable);
  }
  change(fabric::QueuePairChange::kCarrierRestored);
  if (!can_be) {
    return carrier_->refuse(make_fault(
        TerminateCode::kRdmapStreamCatastrophe,
        "the peer of a queue pair says that it stands where it cannot: it has " +
            std::to_string(peer.rx_seq) + " messages, its next one is " + std::to_string(peer.tx_next)));
  }
  say_of_move();
  stay_with_old_place();
  if (draining_.load()) drain();
  messages_.counters.resumes.fetch_add(1, std::memory_order_relaxed);
  messages_.events.on_link_restored();
}

void QueuePair::end_resumption() {
  if (!resumption_) return;
  if (resumption_->terms) engine_->attachables().remove(resumption_->terms->id, *this);
  while (!resumption_->attachments.empty()) drop(*resumption_->attachments.front());
  forget_following();
  std::lock_guard lock(mutex_);
  arrivals_.clear();
}

}  // namespace rdma_migrate::iwarp
