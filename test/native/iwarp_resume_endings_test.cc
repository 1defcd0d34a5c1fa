// How a resumable queue pair ends, and what its requests have come to then.
#include <doctest/doctest.h>

#include "support/resumable_victim.h"

using namespace rdma_migrate;
using namespace rdma_migrate::test;

namespace {

class LinkRecorder final : public Recorder {
 public:
  void on_link_lost(const Error&) override { ++lost; }
  void on_link_restored() override { ++restored; }
  std::atomic<int> lost{0};
  std::atomic<int> restored{0};
};

}  // namespace

TEST_CASE("a message whose region has gone cannot be sent again, and is the first that fails") {
  ResumableVictim made;
  Victim& victim = made.victim;
  REQUIRE(victim.queue_pair->post_send(send_of(*victim.inbox, 100, 1)));
  CHECK(victim.peer.receive_fpdu().header.msn == 1);
  made.take_send(2);
  victim.region->region.reset();
  RawAttach next(made, made.context(1));
  next.resume({0, 1});
  REQUIRE(next.hear_resumed());
  CHECK(next.peer.receive_fpdu().header.msn == 1);
  CHECK(victim.events.closed() == 0);
  next.peer.send(fpdu(iwarp::control_header(2), ResumableVictim::ack(1)));
  victim.events.wait_closed();
  CHECK(victim.events.reason_code() == "INVALID_ARGUMENT");
  const auto sends = victim.events.sends();
  REQUIRE(sends.size() == 2);
  CHECK(sends[0].status == fabric::Status::kSuccess);
  CHECK(sends[1].status == fabric::Status::kError);
}

TEST_CASE("disconnect() ends, whoever attaches again and again") {
  fabric::QueuePairOptions options = resumable(200);
  options.stall_timeout_ms = options.connect_timeout_ms = 200;
  ResumableVictim made(options);
  Victim& victim = made.victim;
  const uint32_t key = victim.region->region->rkey();
  made.take_send(1);
  victim.queue_pair->disconnect();
  // It never acknowledges, and sends something each time: there is always hope.
  uint64_t epoch = 0;
  try {
    while (victim.events.closed() == 0 && epoch < 100'000) {
      RawAttach next(made, made.context(++epoch));
      next.resume({0, epoch});
      if (!next.hear_resumed()) break;
      next.peer.receive_fpdu();
      next.peer.send(fpdu(write_header(key, victim.region->address()), pattern(8, 1)));
      next.peer.reset();
    }
  } catch (const std::runtime_error&) {
  }
  victim.events.wait_closed();
  CHECK(epoch > 1);
  CHECK(epoch < 100'000);
  CHECK(victim.events.sends().at(0).status == fabric::Status::kFlushed);
}

TEST_CASE("what was acknowledged before the end has completed") {
  ResumableVictim made;
  made.take_send(1);
  made.take_send(2);
  // In one piece with what ends the queue pair.
  Bytes wrong = ResumableVictim::ack(1);
  wrong[0] = 9;
  made.victim.peer.send(fpdu(iwarp::control_header(1), ResumableVictim::ack(1)) +
                        fpdu(iwarp::control_header(2), wrong));
  made.victim.expect(TerminateCode::kRdmapUnspecified, "WIRE_ERROR");
  const auto sends = made.victim.events.sends();
  REQUIRE(sends.size() == 2);
  CHECK(sends[0].status == fabric::Status::kSuccess);
  CHECK(sends[1].status == fabric::Status::kFlushed);
}

TEST_CASE("when the window is over the queue pair ends as it does today") {
  ResumableVictim made(100);
  made.take_send(1);
  made.send_control(1, ResumableVictim::ack(0));
  while (made.victim.queue_pair->counters().bytes_received == 0) std::this_thread::yield();
  const auto before = std::chrono::steady_clock::now();
  SUBCASE("cut") { made.victim.peer.reset(); }
  SUBCASE("ended in order, but without END") { made.victim.peer.close(); }
  made.victim.events.wait_closed();
  CHECK(std::chrono::steady_clock::now() - before >= std::chrono::milliseconds(100));
  CHECK(made.victim.events.reason_code() == "CONNECTION_LOST");
  CHECK(made.victim.events.sends()[0].status == fabric::Status::kFlushed);
}

TEST_CASE("who has answered, and has heard nothing since, waits for nobody") {
  ResumableVictim made(60'000);
  made.take_send(1);
  made.victim.peer.reset();
  made.victim.events.wait_closed();
  CHECK(made.victim.events.reason_code() == "CONNECTION_LOST");
}

TEST_CASE("the initiator says at once that it has its answer") {
  auto provider = iwarp::make_provider();
  RawListener listener;
  DomainPointer domain = open_domain(*provider);
  LinkRecorder events;
  auto queue_pair = domain->create_queue_pair(resumable(), events);
  queue_pair->connect(listener.endpoint(), {});
  RawPeer peer = listener.accept();
  const iwarp::MpaFrame request = peer.receive_mpa(iwarp::MpaKind::kRequest);
  iwarp::MpaFrame reply = iwarp::make_reply(request, {}, {}, false);
  iwarp::append_tail({iwarp::random_bits(), iwarp::random_ticket()}, reply.private_data);
  peer.send(iwarp::encode(reply));
  CHECK(peer.receive_fpdu().payload == ResumableVictim::ack(0));
  CHECK_FALSE(events.established());
  SUBCASE("and is established when the peer has shown that it has heard of that") {
    peer.send(fpdu(iwarp::control_header(1), ResumableVictim::ack(0)));
    events.wait_established();
  }
  SUBCASE("else it was never connected") {
    peer.reset();
    events.wait_closed();
    CHECK(events.reason_code() == "CONNECTION_LOST");
    CHECK_FALSE(events.established());
  }
}

TEST_CASE("the initiator ends at once when the peer has given the queue pair up") {
  auto provider = iwarp::make_provider();
  RawListener first;
  DomainPointer domain = open_domain(*provider);
  LinkRecorder events;
  auto queue_pair = domain->create_queue_pair(resumable(), events);
  queue_pair->connect(first.endpoint(), {});
  RawPeer peer = first.accept();
  iwarp::MpaFrame request = peer.receive_mpa(iwarp::MpaKind::kRequest);
  CHECK(iwarp::take_ask(request.private_data));
  const iwarp::ResumeTail tail{iwarp::random_bits(), iwarp::random_ticket()};
  iwarp::MpaFrame reply = iwarp::make_reply(request, {}, {}, false);
  iwarp::append_tail(tail, reply.private_data);
  peer.send(iwarp::encode(reply));
  peer.send(fpdu(iwarp::control_header(1), ResumableVictim::ack(0)));
  events.wait_established();
  peer.reset();
  RawPeer again = first.accept();
  request = again.receive_mpa(iwarp::MpaKind::kRequest);
  CHECK(iwarp::decode_attach(request.private_data)->id == tail.id);
  CHECK(iwarp::decode_attach(request.private_data)->epoch == 1);
  SUBCASE("unknown") {
    again.send(iwarp::encode(iwarp::make_reply(request, {}, iwarp::encode_unknown(), true)));
    events.wait_closed();
    CHECK(events.reason_code() == "CONNECTION_LOST");
  }
  SUBCASE("an answer by somebody else is no answer: it dials once more") {
    const auto asked = iwarp::decode_attach(request.private_data).value();
    again.send(iwarp::encode(iwarp::make_reply(
        request, {}, iwarp::encode_attach({asked.id, asked.epoch, iwarp::random_bits()}), false)));
    again.receive(iwarp::kResumeFpdu);
    again.send(Bytes(iwarp::kResumeFpdu, 0));
    RawPeer third = first.accept();
    request = third.receive_mpa(iwarp::MpaKind::kRequest);
    CHECK(iwarp::decode_attach(request.private_data)->epoch == 2);
    CHECK(iwarp::decode_attach(request.private_data)->nonce != asked.nonce);
    CHECK(events.closed() == 0);
    CHECK(events.lost == 1);
    CHECK(events.restored == 0);
  }
  queue_pair->close();
}

TEST_CASE("close() and disconnect() end it for good, also without a carrier") {
  ResumableVictim made(300);
  SUBCASE("close() says END") {
    made.victim.queue_pair->close();
    const RawPeer::Fpdu last = made.victim.peer.receive_fpdu();
    CHECK(iwarp::decode_control(last.payload)->kind == Control::kEnd);
    CHECK(made.victim.peer.at_end());
  }
  SUBCASE("close() without a carrier does not wait for the window") {
    made.victim.peer.reset();
    made.victim.queue_pair->close();
    CHECK(made.victim.events.closed() == 1);
  }
  SUBCASE("disconnect() without a carrier waits for one, and no longer than the window") {
    made.take_send(1);
    made.victim.peer.reset();
    made.victim.queue_pair->disconnect();
    made.victim.events.wait_closed();
    CHECK(made.victim.events.sends().size() == 1);
  }
}
