// What a hostile or broken peer can say about moves, whichever end moves; images that are cut or changed.
#include <doctest/doctest.h>

#include <random>

#include "iwarp/byte_order.h"
#include "iwarp/crc32c.h"
#include "iwarp/image.h"
#include "iwarp/move_frames.h"
#include "support/resumable_victim.h"

using namespace rdma_migrate;
using namespace rdma_migrate::test;
using iwarp::Answered;
using iwarp::MoveWord;
using iwarp::Prepare;

namespace {

Prepare prepare_for(const fabric::Endpoint& place, bool ahead = true) {
  return {iwarp::random_bits(),
          {iwarp::random_bits(), iwarp::random_ticket()},
          std::chrono::milliseconds(300),
          ahead,
          {place}};
}

// The peer of a victim, which speaks of moves.
struct Mover {
  explicit Mover(uint32_t connect_timeout_ms = 10'000) : made(options(connect_timeout_ms)) {}
  static fabric::QueuePairOptions options(uint32_t connect_timeout_ms) {
    fabric::QueuePairOptions options = resumable();
    options.connect_timeout_ms = connect_timeout_ms;
    return options;
  }
  void say(const Bytes& payload) { made.send_control(++said, payload); }
  // The next control message that is no ACK.
  Bytes hear() {
    for (;;) {
      const auto fpdu = made.victim.peer.receive_fpdu();
      if (fpdu.header.queue == iwarp::control_header(1).queue && fpdu.payload.at(0) != 1) return fpdu.payload;
    }
  }
  MoveWord hear_word() {
    const auto word = iwarp::decode_word(hear());
    REQUIRE(word);
    return *word;
  }

  ResumableVictim made;
  uint32_t said = 0;
};

// Where the victim goes to look for its peer.
struct NewPlace {
  NewPlace(RawListener& at, const Prepare& prepare)
      : peer(at.accept()), request(peer.receive_mpa(iwarp::MpaKind::kRequest)) {
    const auto attach = iwarp::decode_attach(request.private_data);
    REQUIRE(attach);
    CHECK(attach->id == prepare.terms.id);
    context = {prepare.terms.ticket, attach->id, attach->epoch, attach->nonce, iwarp::random_bits()};
    peer.send(iwarp::encode(iwarp::make_reply(
        request, {}, iwarp::encode_attach({context.id, context.epoch, context.answered}), false)));
  }
  std::optional<Positions> hear_resume() {
    return iwarp::decode_resume(Control::kResume, context, peer.receive(iwarp::kResumeFpdu));
  }
  void say_resumed(const Positions& positions) {
    peer.send(iwarp::encode_resume(Control::kResumed, context, positions));
  }

  RawPeer peer;
  iwarp::MpaFrame request;
  iwarp::ResumeContext context;
};

}  // namespace

TEST_CASE("words about moves that are none end in a TERMINATE") {
  RawListener place;
  const Bytes good = iwarp::encode_prepare(prepare_for(place.endpoint()));
  Bytes bad = good;
  SUBCASE("a PREPARE without a place") { bad.resize(iwarp::kPrepareSize); }
  SUBCASE("a PREPARE that is cut short") { bad.pop_back(); }
  SUBCASE("a flag that means nothing") { bad[iwarp::kPrepareSize - 1] = 2; }
  SUBCASE("a pause of nothing") { iwarp::store_be32(&bad[iwarp::kPrepareSize - 8], 0); }
  SUBCASE("a pause of weeks") { iwarp::store_be32(&bad[iwarp::kPrepareSize - 8], UINT32_MAX); }
  SUBCASE("a place of no family") { bad[iwarp::kPrepareSize] = 5; }
  SUBCASE("a place without a port") { bad[iwarp::kPrepareSize + 1] = bad[iwarp::kPrepareSize + 2] = 0; }
  SUBCASE("an IPv4 place with more bytes") { bad.back() = 1; }
  SUBCASE("a STOP that is cut short") {
    bad = iwarp::encode_word({.kind = Control::kStop});
    bad.pop_back();
  }
  SUBCASE("an answer that cannot be") {
    bad = iwarp::encode_word({.kind = Control::kAborted, .answer = Answered::kBusy});
  }
  Mover mover;
  mover.say(bad);
  mover.made.victim.expect(TerminateCode::kRdmapUnspecified, "WIRE_ERROR");
}

TEST_CASE("one that may not move does not follow, either") {
  RawListener place;
  fabric::QueuePairOptions options = resumable();
  options.movable = false;
  ResumableVictim made(options);
  made.send_control(1, iwarp::encode_prepare(prepare_for(place.endpoint())));
  made.victim.expect(TerminateCode::kRdmapUnspecified, "WIRE_ERROR");
}

TEST_CASE("a STOP out of place ends in a TERMINATE") {
  Mover mover;
  SUBCASE("for a move that was not prepared") {
    mover.say(iwarp::encode_word({.kind = Control::kStop, .move = iwarp::random_bits()}));
    mover.made.victim.expect(TerminateCode::kRdmapUnexpectedOpcode, "WIRE_ERROR");
  }
  SUBCASE("behind messages that never came") {
    RawListener place;
    const Prepare prepare = prepare_for(place.endpoint(), false);
    mover.say(iwarp::encode_prepare(prepare));
    CHECK(mover.hear_word().answer == Answered::kOk);
    mover.say(iwarp::encode_word({.kind = Control::kStop, .move = prepare.move, .tx_seq = 7}));
    mover.made.victim.expect(TerminateCode::kRdmapStreamCatastrophe, "WIRE_ERROR");
  }
}

TEST_CASE("answers that nobody has asked for change nothing") {
  Mover mover;
  for (const Control kind : {Control::kPrepared, Control::kStopped, Control::kAborted})
    mover.say(iwarp::encode_word({.kind = kind, .move = iwarp::random_bits()}));
  mover.say(iwarp::encode_word(
      {.kind = Control::kAborted, .move = iwarp::random_bits(), .answer = Answered::kAlreadyMoved}));
  REQUIRE(mover.made.victim.queue_pair->post_send(send_of(*mover.made.victim.region, 100, 1)));
  while (mover.made.victim.peer.receive_fpdu().payload.size() != 100) continue;
  CHECK(mover.made.victim.events.closed() == 0);
}

TEST_CASE("a place that cannot be reached is told of, and everything goes on") {
  fabric::Endpoint nowhere;
  {
    RawListener gone;
    nowhere = gone.endpoint();
  }
  Mover mover(200);
  mover.say(iwarp::encode_prepare(prepare_for(nowhere)));
  CHECK(mover.hear_word().answer == Answered::kUnreachable);
  mover.made.take_send(1);
}

TEST_CASE("a second move while one is prepared is refused") {
  RawListener place;
  Mover mover;
  const Prepare first = prepare_for(place.endpoint(), false);
  mover.say(iwarp::encode_prepare(first));
  CHECK(mover.hear_word().answer == Answered::kOk);
  mover.say(iwarp::encode_prepare(prepare_for(place.endpoint(), false)));
  CHECK(mover.hear_word().answer == Answered::kBusy);
  mover.say(iwarp::encode_prepare(first));  // said again: the same answer
  CHECK(mover.hear_word().answer == Answered::kOk);
}

TEST_CASE("the peer follows to the new place") {
  RawListener place;
  Mover mover;
  const Prepare prepare = prepare_for(place.endpoint());
  mover.made.take_send(1);
  mover.say(iwarp::encode_prepare(prepare));
  NewPlace there(place, prepare);
  CHECK(mover.hear_word().answer == Answered::kOk);
  CHECK_FALSE(there.peer.hears_within(20));  // before STOP where it stands may change
  mover.say(iwarp::encode_word({.kind = Control::kStop, .move = prepare.move}));
  const MoveWord stopped = mover.hear_word();
  CHECK(stopped.kind == Control::kStopped);
  CHECK(stopped.tx_seq == 1);
  const auto peer = there.hear_resume();
  REQUIRE(peer);
  CHECK(peer->rx_seq == 0);
  CHECK(peer->tx_next == 2);
  SUBCASE("and tells the old one so") {
    there.say_resumed({1, 1});
    const MoveWord told = mover.hear_word();
    CHECK(told.kind == Control::kAborted);
    CHECK(told.answer == Answered::kAlreadyMoved);
    CHECK(mover.made.victim.peer.at_end());
    REQUIRE(mover.made.victim.queue_pair->post_send(send_of(*mover.made.victim.region, 100, 2)));
    const auto next = there.peer.receive_fpdu();
    CHECK(next.header.msn == 2);  // as if nothing had been
    CHECK(next.payload.size() == 100);
    CHECK(mover.made.victim.events.closed() == 0);
  }
  SUBCASE("with what it has not got, once more") {
    there.say_resumed({0, 1});
    const auto again = there.peer.receive_fpdu();
    CHECK(again.header.msn == 1);
    CHECK(again.payload.size() == 100);
  }
  SUBCASE("not to somebody who does not know the ticket") {
    there.context.ticket = iwarp::random_ticket();
    there.say_resumed({1, 1});
    CHECK(there.peer.at_end());
    NewPlace again(place, prepare);
    CHECK(again.context.epoch == there.context.epoch + 1);
    REQUIRE(again.hear_resume());
    again.say_resumed({1, 1});
    CHECK(mover.hear_word().answer == Answered::kAlreadyMoved);
  }
  SUBCASE("not once the move has been aborted") {
    mover.say(iwarp::encode_word({.kind = Control::kAbort, .move = prepare.move}));
    CHECK(mover.hear_word().answer == Answered::kOk);
    CHECK(there.peer.at_end());
    mover.made.take_send(2);
  }
  SUBCASE("not where it cannot be") {
    there.say_resumed({2, 1});
    CHECK(there.peer.receive_terminate() == TerminateCode::kRdmapStreamCatastrophe);
    there.peer.close();
    mover.made.victim.events.wait_closed();
  }
  SUBCASE("or ends when its longest pause is over") {
    mover.made.victim.events.wait_closed();
    CHECK(mover.made.victim.events.reason_code() == "CONNECTION_LOST");
  }
}

TEST_CASE("without a way ahead the peer connects when it was stopped") {
  RawListener place;
  Mover mover;
  const Prepare prepare = prepare_for(place.endpoint(), false);
  mover.say(iwarp::encode_prepare(prepare));
  CHECK(mover.hear_word().answer == Answered::kOk);
  mover.say(iwarp::encode_word({.kind = Control::kStop, .move = prepare.move}));
  NewPlace there(place, prepare);
  REQUIRE(there.hear_resume());
  there.say_resumed({0, 1});
  CHECK(mover.hear_word().kind == Control::kStopped);
  CHECK(mover.hear_word().answer == Answered::kAlreadyMoved);
}

TEST_CASE("a broken link while the peer moves: it is looked for at both places") {
  RawListener place;
  Mover mover;
  const Prepare prepare = prepare_for(place.endpoint());
  mover.say(iwarp::encode_prepare(prepare));
  NewPlace there(place, prepare);
  CHECK(mover.hear_word().answer == Answered::kOk);
  mover.made.victim.peer.reset();
  REQUIRE(there.hear_resume());
  SUBCASE("the old one comes back, and what was said at the new one holds no more") {
    RawAttach back(mover.made, mover.made.context(1));
    back.resume({0, 1});
    REQUIRE(back.hear_resumed());
    CHECK(there.peer.at_end());
    NewPlace again(place, prepare);
    back.peer.send(
        fpdu(iwarp::control_header(2), iwarp::encode_word({.kind = Control::kStop, .move = prepare.move})));
    REQUIRE(again.hear_resume());
    CHECK(mover.made.victim.events.closed() == 0);
  }
  SUBCASE("the new one has taken over") {
    there.say_resumed({0, 1});
    REQUIRE(mover.made.victim.queue_pair->post_send(send_of(*mover.made.victim.region, 100, 1)));
    CHECK(there.peer.receive_fpdu().payload.size() == 100);
  }
  SUBCASE("nobody comes") {
    mover.made.victim.events.wait_closed();
    CHECK(mover.made.victim.events.reason_code() == "CONNECTION_LOST");
  }
}

namespace {

fabric::MovePlan plan_to(const fabric::Endpoint& place) {
  return {iwarp::random_bits(), {place}, std::chrono::seconds(5), true};
}

}  // namespace

TEST_CASE("what the peer of one that moves can answer") {
  RawListener place;
  Mover peer(300);
  Victim& victim = peer.made.victim;
  peer.say(ResumableVictim::ack(0));
  const fabric::MovePlan plan = plan_to(place.endpoint());
  victim.queue_pair->prepare_move(plan);
  const auto prepare = iwarp::decode_prepare(peer.hear());
  REQUIRE(prepare);
  CHECK(prepare->move == plan.id);
  const auto prepared = [&](Answered answer) {
    peer.say(iwarp::encode_word({.kind = Control::kPrepared, .move = plan.id, .answer = answer}));
    return victim.events.wait_step(fabric::MoveStep::kPrepared);
  };
  SUBCASE("that it moves itself") { CHECK(prepared(Answered::kBusy) == "BUSY"); }
  SUBCASE("that it cannot go there") { CHECK(prepared(Answered::kUnreachable) == "CONNECT_FAILED"); }
  SUBCASE("nothing") { CHECK(victim.events.wait_step(fabric::MoveStep::kPrepared) == "TIMEOUT"); }
  SUBCASE("to STOP, nothing; and to ABORT, nothing") {
    CHECK(prepared(Answered::kOk) == "");
    CHECK_THROWS_AS(victim.queue_pair->freeze([] { return std::vector<fabric::Completion>(); }), Error);
    victim.queue_pair->stop_for_move(std::chrono::milliseconds(50));
    CHECK(peer.hear_word().kind == Control::kStop);
    CHECK(victim.events.wait_step(fabric::MoveStep::kStopped) == "TIMEOUT");
    victim.queue_pair->abort_move();
    CHECK(peer.hear_word().kind == Control::kAbort);
    CHECK(victim.events.wait_step(fabric::MoveStep::kAborted) == "TIMEOUT");
    // It comes late, and all goes on.
    REQUIRE(victim.queue_pair->post_send(send_of(*victim.region, 100, 1)));
    CHECK_FALSE(victim.peer.hears_within(20));
    peer.say(iwarp::encode_word({.kind = Control::kAborted, .move = plan.id}));
    CHECK(victim.peer.receive_fpdu().payload.size() == 100);
  }
  SUBCASE("that it stands where it cannot") {
    CHECK(prepared(Answered::kOk) == "");
    victim.queue_pair->stop_for_move(std::chrono::seconds(5));
    CHECK(peer.hear_word().kind == Control::kStop);
    SUBCASE("with more than was sent") {
      peer.say(iwarp::encode_word({.kind = Control::kStopped, .move = plan.id, .rx_seq = 1}));
    }
    SUBCASE("with messages that never came") {
      peer.say(iwarp::encode_word({.kind = Control::kStopped, .move = plan.id, .tx_seq = 1}));
    }
    victim.expect(TerminateCode::kRdmapStreamCatastrophe, "WIRE_ERROR");
  }
  SUBCASE("that it has gone") {
    CHECK(prepared(Answered::kOk) == "");
    victim.queue_pair->stop_for_move(std::chrono::seconds(5));
    CHECK(peer.hear_word().kind == Control::kStop);
    peer.say(iwarp::encode_word({.kind = Control::kStopped, .move = plan.id}));
    CHECK(victim.events.wait_step(fabric::MoveStep::kStopped) == "");
    victim.queue_pair->freeze([] { return std::vector<fabric::Completion>(); });
    CHECK_THROWS_AS(victim.queue_pair->post_send(send_of(*victim.region, 100, 1)), Error);
    CHECK_THROWS_AS(victim.queue_pair->post_recv(recv_of(*victim.inbox, 9)), Error);
    peer.say(
        iwarp::encode_word({.kind = Control::kAborted, .move = plan.id, .answer = Answered::kAlreadyMoved}));
    CHECK(victim.events.closed() == 0);  // it is asked for
    victim.queue_pair->abort_move();
    victim.events.wait_closed();
    CHECK(victim.events.reason_code() == "ALREADY_MOVED");
  }
}

TEST_CASE("while a queue pair is frozen nobody attaches to it") {
  RawListener place;
  Mover peer;
  Victim& victim = peer.made.victim;
  peer.say(ResumableVictim::ack(0));
  const fabric::MovePlan plan = plan_to(place.endpoint());
  victim.queue_pair->prepare_move(plan);
  REQUIRE(iwarp::decode_prepare(peer.hear()));
  peer.say(iwarp::encode_word({.kind = Control::kPrepared, .move = plan.id}));
  CHECK(victim.events.wait_step(fabric::MoveStep::kPrepared) == "");
  victim.queue_pair->stop_for_move(std::chrono::seconds(5));
  CHECK(peer.hear_word().kind == Control::kStop);
  peer.say(iwarp::encode_word({.kind = Control::kStopped, .move = plan.id}));
  CHECK(victim.events.wait_step(fabric::MoveStep::kStopped) == "");
  const Bytes image = victim.queue_pair->freeze([] { return std::vector<fabric::Completion>(); });
  RawAttach early(peer.made, peer.made.context(1));
  CHECK(early.peer.at_end());
  SUBCASE("it stays") {
    victim.queue_pair->abort_move();
    victim.peer.reset();
    for (uint64_t epoch = 2;; ++epoch) {
      REQUIRE(epoch < 1000);
      RawAttach again(peer.made, peer.made.context(epoch));
      if (!again.peer.hears_within(100)) continue;
      again.resume({0, 1});
      if (!again.hear_resumed()) continue;
      // The question is asked again.
      again.peer.send(
          fpdu(iwarp::control_header(2), iwarp::encode_word({.kind = Control::kAborted, .move = plan.id})));
      break;
    }
    CHECK(victim.events.wait_step(fabric::MoveStep::kAborted) == "");
  }
  SUBCASE("it goes, and who comes to the new place has to know the new ticket") {
    Recorder events;
    auto next = victim.domain->create_queue_pair(resumable(), events);
    CHECK_THROWS_AS(next->take_over(std::chrono::seconds(5)), Error);
    next->thaw(image);
    CHECK_THROWS_AS(next->thaw(image), Error);
    victim.queue_pair->commit_move();
    victim.events.wait_closed();
    CHECK(victim.events.sends().empty());
    CHECK(victim.peer.at_end());  // without a word
    next->take_over(std::chrono::seconds(5));
    const auto known = iwarp::decode_image(image, {});
    iwarp::ResumeContext context = peer.made.context(1);
    context.id = known.terms.id;
    RawAttach forged(peer.made, context);
    forged.resume({0, 1});
    CHECK(forged.peer.at_end());
    context.ticket = known.terms.ticket;
    RawAttach right(peer.made, context);
    right.resume({0, 1});
    REQUIRE(right.hear_resumed());
    // Once: a copy of it is of the past.
    RawAttach replayed(peer.made, context);
    CHECK(replayed.peer.at_end());
    REQUIRE(next->post_send(send_of(*victim.region, 100, 1)));
    CHECK(right.peer.receive_fpdu().payload.size() == 100);
    next->close();
  }
}

TEST_CASE("a queue pair that cannot move says so") {
  RawListener place;
  SUBCASE("because it is not resumable") {
    Victim victim;
    CHECK_THROWS_AS(victim.queue_pair->prepare_move(plan_to(place.endpoint())), Error);
    CHECK_THROWS_AS(victim.queue_pair->announcement(), Error);
    victim.queue_pair->abort_move();
    CHECK(victim.events.wait_step(fabric::MoveStep::kAborted) == "");
  }
  SUBCASE("because the plan is none") {
    ResumableVictim made;
    CHECK_THROWS_AS(made.victim.queue_pair->prepare_move(plan_to({"localhost", 1})), Error);
    CHECK_THROWS_AS(made.victim.queue_pair->prepare_move(plan_to({"127.0.0.1", 0})), Error);
    fabric::MovePlan plan = plan_to(place.endpoint());
    plan.to.resize(5, plan.to[0]);
    CHECK_THROWS_AS(made.victim.queue_pair->prepare_move(plan), Error);
    plan = plan_to(place.endpoint());
    plan.longest_pause = std::chrono::hours(25);
    CHECK_THROWS_AS(made.victim.queue_pair->prepare_move(plan), Error);
  }
}

namespace {

iwarp::QueuePairImage some_image() {
  iwarp::QueuePairImage image;
  image.terms = {iwarp::random_bits(), iwarp::random_ticket()};
  image.ord = image.ird = 4;
  image.sent_sends = 9;
  fabric::SendWorkRequest send{1, fabric::Opcode::kSend, 0x1000, 10, 3, 0, 0, true};
  fabric::SendWorkRequest read{2, fabric::Opcode::kRdmaRead, 0x2000, 20, 3, 0x9000, 4, true};
  image.send_queue = {0, 0, 2, 0, {send, read, send}};
  image.log = {5, 7, 3, {{{}, send, 9}, {{}, read, 1}, {iwarp::ReadJob{1, 2, 3, 4, 5}, {}, 0}}};
  image.pending_reads = {{3, 0x2000, 20, 7}};
  image.read_jobs = {{1, 2, 3, 4, 5}};
  image.recv_queue = {{7, 0x3000, 100, 3}};
  image.completions = {{4, fabric::Opcode::kRecv, fabric::Status::kSuccess, 8}};
  return image;
}

bool is_invalid(const Bytes& bytes) {
  try {
    iwarp::decode_image(bytes, {});
  } catch (const Error& error) {
    CHECK(std::string(error.code()) == "IMAGE_INVALID");
    return true;
  }
  return false;
}

}  // namespace

TEST_CASE("an image is what it was, and nothing else is one") {
  const Bytes good = iwarp::encode_image(some_image());
  CHECK(iwarp::encode_image(iwarp::decode_image(good, {})) == good);
  for (size_t size = 0; size < good.size(); ++size)
    CHECK(is_invalid(Bytes(good.begin(), good.begin() + static_cast<ptrdiff_t>(size))));
  for (size_t bit = 0; bit < 8 * good.size(); ++bit) {
    Bytes bad = good;
    bad[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    CHECK(is_invalid(bad));
  }
}

TEST_CASE("an image whose parts contradict each other is refused") {
  iwarp::QueuePairImage image = some_image();
  SUBCASE("positions of the send queue") { image.send_queue.sent = 3; }
  SUBCASE("messages that nobody has posted") { image.log.messages.pop_front(); }
  SUBCASE("an answer to a READ that was not sent") { image.pending_reads[0].seq = 9; }
  SUBCASE("READs that nobody has posted") { image.send_queue.reads_answered = 1; }
  SUBCASE("more READs than were agreed") { image.ird = 0; }
  SUBCASE("more acknowledged than was sent") { image.log.highest = 4; }
  SUBCASE("more sent than there is") { image.log.highest = 9; }
  SUBCASE("more than the queues have room for") { image.recv_queue.resize(9); }
  SUBCASE("more completions than the queues give") { image.completions.resize(2000); }
  CHECK(is_invalid(iwarp::encode_image(image)));
}

// With a right CRC: who changes an image can make one.
TEST_CASE("changed images are refused, or hold no more than a queue pair can") {
  const uint64_t seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  const Bytes good = iwarp::encode_image(some_image());
  size_t refused = 0;
  for (int round = 0; round < 20'000; ++round) {
    Bytes bad = good;
    for (uint64_t changes = random() % 3 + 1; changes != 0; --changes)
      bad[12 + random() % (bad.size() - 16)] = static_cast<uint8_t>(random());
    iwarp::store_be32(&bad[bad.size() - 4], iwarp::crc32c(std::span(bad).first(bad.size() - 4)));
    refused += is_invalid(bad) ? 1 : 0;
  }
  CHECK(refused > 1000);
  CHECK(refused < 20'000);
}
