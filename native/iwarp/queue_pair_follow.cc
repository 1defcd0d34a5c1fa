// A queue pair whose peer moves to another process, and that goes on with it there. Its program does nothing
// for it, and is told of a link that was lost and restored.
#include <algorithm>
#include <utility>

#include "iwarp/queue_pair.h"

namespace rdma_migrate::iwarp {
namespace {

// In the pause a way that answers nothing is tried again soon.
constexpr std::chrono::seconds kOneTry{2};

}  // namespace

void QueuePair::say(fabric::Bytes control, bool at_rest) {
  if (!carrier_) return;  // the next one hears it
  messages_.controls.push_back({std::move(control), at_rest});
  carrier_->go_on_sending();
}

void QueuePair::heard_prepare(std::span<const uint8_t> payload) {
  std::optional<Prepare> prepare = decode_prepare(payload);
  if (!prepare)
    throw make_fault(TerminateCode::kRdmapUnspecified, "a PREPARE that is cut short, or names no new place");
  std::optional<Following>& following = resumption_->following;
  if (following && following->said.move == prepare->move) {
    if (!following->answer_by) answer_prepare(Answered::kOk);
    return;
  }
  if (resumption_->moving || following || resumption_->keys) {
    return say(encode_word({.kind = Control::kPrepared, .move = prepare->move, .answer = Answered::kBusy}));
  }
  following.emplace();
  following->said = std::move(*prepare);
  if (!following->said.ahead) return answer_prepare(Answered::kOk);
  const Clock::time_point now = Clock::now();
  following->answer_by = now + std::chrono::milliseconds(messages_.options.connect_timeout_ms / 2);
  look_after_following(now);
}

void QueuePair::answer_prepare(Answered answer) {
  resumption_->following->answer_by.reset();
  say(encode_word({.kind = Control::kPrepared, .move = resumption_->following->said.move, .answer = answer}));
}

// Everything of the peer's that was begun has come, and nothing follows: this end stands still, too, and
// where it stands can be said at the new place.
void QueuePair::heard_stop(const MoveWord& word) {
  std::optional<Following>& following = resumption_->following;
  if (!following || following->said.move != word.move)
    throw make_fault(TerminateCode::kRdmapUnexpectedOpcode, "a STOP for a move that was not prepared");
  if (word.tx_seq != messages_.log.rx_seq()) {
    throw make_fault(TerminateCode::kRdmapStreamCatastrophe,
                     "a STOP behind " + std::to_string(word.tx_seq) + " messages, where " +
                         std::to_string(messages_.log.rx_seq()) + " have come");
  }
  messages_.stopped = true;
  say(encode_word({.kind = Control::kStopped,
                   .move = word.move,
                   .tx_seq = messages_.log.last(),
                   .rx_seq = messages_.log.rx_seq()}),
      true);
  if (following->is_stopped) return;
  following->is_stopped = true;
  const Clock::time_point now = Clock::now();
  following->until = now + following->said.longest_pause;
  if (following->way && following->way->waits()) following->way->say(positions(), *following->until);
  look_after_following(now);
}

void QueuePair::heard_abort(const MoveWord& word) {
  if (resumption_->following && resumption_->following->said.move == word.move) forget_following();
  messages_.stopped = false;
  say(encode_word({.kind = Control::kAborted, .move = word.move}));
  processor_.resume(*this);
}

void QueuePair::forget_following() {
  if (!resumption_->following) return;
  if (std::unique_ptr<Attachment> way = std::move(resumption_->following->way)) {
    way->take_socket();
    processor_.retire(std::move(way));
  }
  resumption_->following.reset();
}

void QueuePair::look_after_following(Clock::time_point now) {
  if (!resumption_->following || ended_) return;
  Following& following = *resumption_->following;
  if (following.until && now >= *following.until) {
    const Error over("CONNECTION_LOST",
                     "the peer has stopped to move, and has not come back within its longest pause of " +
                         std::to_string(following.said.longest_pause.count()) + " ms");
    return carrier_ ? carrier_->abandon(over) : carrier_down(over);
  }
  if (following.until) processor_.wake_by(*this, *following.until);
  const bool is_due = following.said.ahead || following.until.has_value();
  if (!is_due) return;
  if (following.way) {
    if (following.until && following.way->waits()) following.way->say(positions(), *following.until);
    return;
  }
  if (now < following.next_try) return processor_.wake_by(*this, following.next_try);
  dial_new_place(now);
}

void QueuePair::dial_new_place(Clock::time_point now) {
  Following& following = *resumption_->following;
  following.place = following.failures % following.said.to.size();
  const ResumeContext context{
      following.said.terms.ticket, following.said.terms.id, ++following.epoch, {}, {}};
  const bool in_pause = following.until.has_value();
  const Clock::time_point by = in_pause ? *following.until : following.answer_by.value_or(now + kOneTry);
  try {
    following.way =
        std::make_unique<Attachment>(processor_, static_cast<AttachmentUser&>(*this), messages_.options,
                                     context, resumption_->crc, in_pause ? std::min(by, now + kOneTry) : by);
    following.way->dial_ahead(following.said.to[following.place]);
  } catch (const std::exception& error) {
    way_failed(Error("RESOURCE_LIMIT", error.what()));
  }
}

void QueuePair::attachment_waits(Attachment& attachment) {
  if (!is_way(attachment)) return;
  Following& following = *resumption_->following;
  following.failures = 0;
  if (following.answer_by) answer_prepare(Answered::kOk);
  if (following.until) following.way->say(positions(), *following.until);
}

void QueuePair::way_failed(const Error&) {
  Following& following = *resumption_->following;
  if (following.way) {
    following.way->take_socket();
    processor_.retire(std::move(following.way));
  }
  ++following.failures;
  const Clock::time_point now = Clock::now();
  if (following.answer_by && now >= *following.answer_by) {
    answer_prepare(Answered::kUnreachable);
    return forget_following();
  }
  const auto pause = std::chrono::milliseconds(std::max(messages_.options.resume_retry_ms, 1U));
  following.next_try = now + pause;
  processor_.wake_by(*this, following.next_try);
}

// The old place has come back before it has said STOP. Where this end stands moves on, so what has been said
// at the new place does not hold.
void QueuePair::stay_with_old_place() {
  if (!resumption_->following || resumption_->following->is_stopped) return;
  Following& following = *resumption_->following;
  following.until.reset();
  if (!following.way || following.way->is_dialling_ahead()) return;
  following.way->take_socket();
  processor_.retire(std::move(following.way));
  following.next_try = Clock::now();
  processor_.resume(*this);
}

// The new place has shown that it knows the ticket, and has said where it stands: from here on the old one
// counts no more.
void QueuePair::follow() {
  Following following = std::move(*resumption_->following);
  resumption_->following.reset();
  const Error moved("CONNECTION_LOST", "the peer has moved");
  if (carrier_) {
    carrier_->say_last(encode_word(
        {.kind = Control::kAborted, .move = following.said.move, .answer = Answered::kAlreadyMoved}));
    carrier_->give_up();
    processor_.retire(std::move(carrier_));
    suspend(moved);
  }
  messages_.stopped = false;
  if (!resumption_->dials) engine_->attachables().remove(resumption_->terms->id, *this);
  resumption_->dials = true;
  resumption_->terms = following.said.terms;
  resumption_->endpoint = following.said.to[following.place];
  resumption_->fruitless = 0;
  try {
    go_on(*following.way);
  } catch (const std::exception& error) {
    carrier_down(
        Error("RESOURCE_LIMIT", std::string("cannot go on with a peer that moved: ") + error.what()));
  }
  processor_.retire(std::move(following.way));
}

}  // namespace rdma_migrate::iwarp
