// A queue pair that moves to another process: at its old place and at its new one. docs/moving-connections.md
// has the messages.
#include <algorithm>
#include <utility>

#include "iwarp/queue_pair.h"

namespace rdma_migrate::iwarp {
namespace {

using Step = Moving::Step;

[[noreturn]] void bad_step(const std::string& what) { throw Error("INVALID_ARGUMENT", what); }

}  // namespace

// What it throws is this call's.
void QueuePair::on_processor(const std::function<void()>& work) {
  std::optional<Error> failure;
  processor_.call([&] {
    try {
      if (ended_) throw Error("CONNECTION_CLOSED", "the queue pair has ended");
      work();
    } catch (const Error& error) {
      failure = error;
    } catch (const std::exception& error) {
      failure.emplace("OUT_OF_MEMORY", error.what());
    }
  });
  if (failure) throw *failure;
}

void QueuePair::check_moves(Step due) const {
  if (!resumption_ || !resumption_->moving || resumption_->moving->step != due)
    bad_step(
        "this step of a move is not due: prepare_move(), stop_for_move(), freeze(), each when the one "
        "before has come to its end");
}

void QueuePair::prepare_move(const fabric::MovePlan& plan) {
  Prepare said{plan.id, {random_bits(), random_ticket()}, plan.longest_pause, plan.ahead, plan.to};
  fabric::Bytes message = encode_prepare(said);  // says what is wrong with it
  on_processor([&] {
    if (!messages_.log.on() || !messages_.options.movable)
      bad_step("only a resumable queue pair that is established can move");
    if (resumption_->keys) bad_step("a protected queue pair does not move");
    if (resumption_->following) throw Error("BUSY", "the peer of the queue pair is moving itself");
    const fabric::QueuePairState now = state();
    if (messages_.holds.load() || draining_.load() || resumption_->is_expected ||
        (now != fabric::QueuePairState::kRts && now != fabric::QueuePairState::kSuspended))
      bad_step(std::string("a queue pair can move in the state RTS, this one is in ") + to_string(now));
    if (resumption_->moving) bad_step("the queue pair moves already");
    resumption_->moving.emplace();
    Moving& moving = *resumption_->moving;
    moving.said = std::move(said);
    moving.answer_by = Clock::now() + std::chrono::milliseconds(messages_.options.connect_timeout_ms);
    processor_.wake_by(*this, *moving.answer_by);
    say_of_move();
  });
}

fabric::Bytes QueuePair::announcement() const {
  fabric::Bytes bytes;
  const_cast<QueuePair*>(this)->on_processor([&] {
    if (!resumption_ || !resumption_->moving) bad_step("announcement() of a queue pair that does not move");
    bytes = encode_announcement({resumption_->moving->said.terms, resumption_->crc});
  });
  return bytes;
}

// Said on this carrier; a new one hears it again.
void QueuePair::say_of_move() {
  if (!resumption_->moving) return;
  const Moving& moving = *resumption_->moving;
  switch (moving.step) {
    case Step::kPreparing:
      return say(encode_prepare(moving.said));
    case Step::kPrepared:
    case Step::kFrozen:
      return;
    case Step::kStopping:
    case Step::kStopped:
      return say(
          encode_word({.kind = Control::kStop, .move = moving.said.move, .tx_seq = messages_.log.last()}),
          true);
    case Step::kAborting:
      return say(encode_word({.kind = Control::kAbort, .move = moving.said.move}));
  }
}

uint64_t QueuePair::moved() const {
  return messages_.log.acked() + messages_.log.rx_seq() +
         messages_.counters.payload_received.load(std::memory_order_relaxed);
}

void QueuePair::stop_for_move(std::chrono::milliseconds drain) {
  on_processor([&] {
    check_moves(Step::kPrepared);
    Moving& moving = *resumption_->moving;
    moving.step = Step::kStopping;
    moving.moved_before = moved();
    moving.answer_by = Clock::now() + drain;
    processor_.wake_by(*this, *moving.answer_by);
    messages_.stopped = true;
    say_of_move();
  });
}

// Of a step whose answer has not come in time.
void QueuePair::look_after_move(Clock::time_point now) {
  if (!resumption_->moving || !resumption_->moving->answer_by) return;
  Moving& moving = *resumption_->moving;
  if (now < *moving.answer_by) return processor_.wake_by(*this, *moving.answer_by);
  moving.answer_by.reset();
  const Error late("TIMEOUT", "the peer of a queue pair that moves did not answer in time");
  switch (moving.step) {
    case Step::kPreparing:
      return messages_.events.on_move(fabric::MoveStep::kPrepared, &late);
    case Step::kStopping: {
      const bool comes_along = carrier_ && moved() != moving.moved_before;
      if (comes_along) moving.step = Step::kStopped;
      return messages_.events.on_move(fabric::MoveStep::kStopped, comes_along ? nullptr : &late);
    }
    case Step::kAborting:
      return messages_.events.on_move(fabric::MoveStep::kAborted, &late);
    default:
      return;
  }
}

void QueuePair::heard_control(std::span<const uint8_t> payload) {
  if (!messages_.options.movable)
    throw make_fault(TerminateCode::kRdmapUnspecified, "a control message that is none here");
  if (control_kind(payload) == Control::kPrepare) return heard_prepare(payload);
  const std::optional<MoveWord> word = decode_word(payload);
  if (!word) {
    throw make_fault(TerminateCode::kRdmapUnspecified,
                     "a control message that is none, of a wrong length, or with a value that cannot be");
  }
  switch (word->kind) {
    case Control::kPrepared:
      return heard_prepared(*word);
    case Control::kStop:
      return heard_stop(*word);
    case Control::kStopped:
      return heard_stopped(*word);
    case Control::kAbort:
      return heard_abort(*word);
    default:
      return heard_aborted(*word);
  }
}

// Answers that nobody awaits any more are passed over: a carrier broke, and the question was asked again.
void QueuePair::heard_prepared(const MoveWord& word) {
  if (!resumption_->moving || resumption_->moving->said.move != word.move ||
      resumption_->moving->step != Step::kPreparing)
    return;
  resumption_->moving->answer_by.reset();
  if (word.answer == Answered::kOk) {
    resumption_->moving->step = Step::kPrepared;
    return messages_.events.on_move(fabric::MoveStep::kPrepared, nullptr);
  }
  resumption_->moving.reset();
  const Error problem =
      word.answer == Answered::kBusy
          ? Error("BUSY", "the peer of the queue pair is moving itself: only one end can at a time")
          : Error("CONNECT_FAILED", "the peer of the queue pair cannot reach the new place");
  messages_.events.on_move(fabric::MoveStep::kPrepared, &problem);
}

void QueuePair::heard_stopped(const MoveWord& word) {
  if (!resumption_->moving || resumption_->moving->said.move != word.move ||
      resumption_->moving->step != Step::kStopping)
    return;
  // It came behind everything that the peer had begun, in answer to what came behind everything of this end.
  if (word.tx_seq != messages_.log.rx_seq() || !messages_.log.acknowledge(word.rx_seq)) {
    throw make_fault(TerminateCode::kRdmapStreamCatastrophe,
                     "the peer of a queue pair that moves says that it stands where it cannot: it has " +
                         std::to_string(word.rx_seq) + " messages, and has sent " +
                         std::to_string(word.tx_seq));
  }
  resumption_->moving->answer_by.reset();
  resumption_->moving->step = Step::kStopped;
  messages_.events.on_move(fabric::MoveStep::kStopped, nullptr);
}

// ALREADY_MOVED comes without a question, too: whoever is here must not go on.
void QueuePair::heard_aborted(const MoveWord& word) {
  if (!resumption_->moving || resumption_->moving->said.move != word.move) return;
  if (word.answer == Answered::kAlreadyMoved) {
    throw Error("ALREADY_MOVED",
                "the peer has gone on with the new place of the queue pair: it is not here any more");
  }
  if (resumption_->moving->step != Step::kAborting) return;
  stay();
  messages_.events.on_move(fabric::MoveStep::kAborted, nullptr);
}

void QueuePair::stay() {
  resumption_->moving.reset();
  messages_.stopped = false;
  if (carrier_) carrier_->go_on_sending();
}

fabric::Bytes QueuePair::freeze(const fabric::TakeCompletions& take) {
  fabric::Bytes bytes;
  on_processor([&] {
    check_moves(Step::kStopped);
    messages_.send_queue.freeze(true);
    messages_.recv_queue.freeze(true);
    if (carrier_) {
      carrier_->leave_rest();
      carrier_->freeze(true);
    }
    resumption_->moving->step = Step::kFrozen;
    bytes = encode_image(image(take));
  });
  return bytes;
}

QueuePairImage QueuePair::image(const fabric::TakeCompletions& take) const {
  QueuePairImage image;
  image.terms = resumption_->moving->said.terms;
  image.crc = resumption_->crc;
  image.large_segments = messages_.large_segments.load();
  image.ord = static_cast<uint32_t>(messages_.ord);
  image.ird = static_cast<uint32_t>(messages_.ird);
  image.log = messages_.log.save();
  image.sent_sends = messages_.sent_sends;
  image.sent_reads = messages_.sent_reads;
  image.received_sends = messages_.received_sends;
  image.received_reads = messages_.received_reads;
  image.send_queue = messages_.send_queue.save();
  image.recv_queue = messages_.recv_queue.save();
  image.pending_reads = messages_.pending_reads;
  image.read_jobs = messages_.read_jobs;
  image.completions = take();
  return image;
}

void QueuePair::abort_move() {
  on_processor([&] {
    if (!resumption_ || !resumption_->moving)
      return messages_.events.on_move(fabric::MoveStep::kAborted, nullptr);
    Moving& moving = *resumption_->moving;
    if (moving.step == Step::kAborting) bad_step("the move is being aborted already");
    const Step before = std::exchange(moving.step, Step::kAborting);
    const bool is_awaited = moving.answer_by.has_value();
    moving.answer_by = Clock::now() + std::chrono::milliseconds(messages_.options.connect_timeout_ms);
    messages_.send_queue.freeze(false);
    messages_.recv_queue.freeze(false);
    say_of_move();
    if (carrier_) carrier_->freeze(false);
    // Nobody looked for the peer meanwhile.
    resumption_->until = Clock::now() + std::chrono::milliseconds(messages_.options.resume_window_ms);
    processor_.resume(*this);  // of a broken link, too
    const Error aborted("CANCELLED", "the move was aborted");
    if (is_awaited && before == Step::kPreparing)
      messages_.events.on_move(fabric::MoveStep::kPrepared, &aborted);
    if (is_awaited && before == Step::kStopping)
      messages_.events.on_move(fabric::MoveStep::kStopped, &aborted);
  });
}

void QueuePair::commit_move() {
  on_processor([&] {
    check_moves(Step::kFrozen);
    if (carrier_) carrier_->give_up();
    // What was posted is the new place's, and comes to its end there.
    std::vector<fabric::Completion> elsewhere;
    messages_.send_queue.flush(elsewhere, false);
    messages_.recv_queue.flush(elsewhere);
    carrier_down(std::nullopt);
  });
}

void QueuePair::expect(std::span<const uint8_t> announcement) {
  const Announcement known = decode_announcement(announcement);
  {
    std::lock_guard lock(mutex_);
    check_startable();
    if (!resumption_) bad_step("expect() of a queue pair without a window to resume in");
    started_ = true;
  }
  on_processor([&] { await_peer(known.terms, known.crc); });
}

void QueuePair::await_peer(const ResumeTail& terms, bool crc) {
  resumption_->terms = terms;
  resumption_->crc = crc;
  resumption_->is_expected = true;
  engine_->attachables().add(terms.id, *this);
}

void QueuePair::thaw(std::span<const uint8_t> bytes) {
  QueuePairImage image = decode_image(bytes, messages_.options);
  {
    std::lock_guard lock(mutex_);
    if (!resumption_) bad_step("thaw() of a queue pair without a window to resume in");
    if (!started_) check_startable();
    started_ = true;
  }
  on_processor([&] {
    if (state() != fabric::QueuePairState::kInit || carrier_ || opening_)
      bad_step("thaw() of one that has begun");
    if (!messages_.send_queue.save().requests.empty() || !messages_.recv_queue.save().empty())
      bad_step("thaw() of a queue pair to which something was posted");
    if (!resumption_->terms) await_peer(image.terms, image.crc);
    if (resumption_->terms->id != image.terms.id || resumption_->crc != image.crc)
      throw Error("IMAGE_INVALID", "the image is of another queue pair than was announced");
    restore(std::move(image));
  });
}

void QueuePair::restore(QueuePairImage image) {
  if (image.large_segments) allow_large_segments();
  messages_.ord = image.ord;
  messages_.ird = image.ird;
  ord_.store(image.ord);
  messages_.log.restore(std::move(image.log));
  messages_.sent_sends = image.sent_sends;
  messages_.sent_reads = image.sent_reads;
  messages_.received_sends = image.received_sends;
  messages_.received_reads = image.received_reads;
  messages_.send_queue.restore(image.send_queue);
  messages_.recv_queue.restore(std::move(image.recv_queue));
  messages_.pending_reads = std::move(image.pending_reads);
  messages_.read_jobs = std::move(image.read_jobs);
  {
    std::lock_guard lock(mutex_);
    info_.crc = image.crc;
    info_.resumable = true;
    info_.detail = std::string("moved here, CRC32C ") + (image.crc ? "on" : "off") + ", resumable";
  }
  resumption_->reason = Error("CONNECTION_LOST", "the queue pair has moved here, and its peer did not come");
  change(fabric::QueuePairChange::kThawed);
  // In their order, of both queues.
  for (const fabric::Completion& each : image.completions) {
    if (each.opcode == fabric::Opcode::kRecv) {
      messages_.events.on_recv({&each, 1});
    } else {
      messages_.events.on_send({&each, 1});
    }
  }
}

void QueuePair::take_over(std::chrono::milliseconds longest_pause) {
  on_processor([&] {
    if (!resumption_ || !resumption_->is_expected || state() != fabric::QueuePairState::kSuspended)
      bad_step("take_over() of a queue pair that was not thawed, or was taken over before");
    resumption_->is_expected = false;
    resumption_->until = Clock::now() + longest_pause;
    // The peer's last try counts: it has given those before it up, and may have gone on with the old place
    // since, so that it stands elsewhere now.
    Attachment* last = nullptr;
    for (const auto& each : resumption_->attachments) {
      if (each->is_attached() && (last == nullptr || each->epoch() > last->epoch())) last = each.get();
    }
    if (last != nullptr && !messages_.log.can_resume(last->peer().rx_seq, last->peer().tx_next)) {
      drop(*last);
      last = nullptr;
    }
    if (last != nullptr) return attached(*last);
    processor_.wake_by(*this, resumption_->until);
  });
}

}  // namespace rdma_migrate::iwarp
