// What a hostile, broken or foreign peer can say to a resumable queue pair, and what each end may rely on.
#include <doctest/doctest.h>

#include "iwarp/move_frames.h"
#include "support/resumable_victim.h"

using namespace rdma_migrate;
using namespace rdma_migrate::test;

TEST_CASE("acknowledgements that break the rules end in a TERMINATE") {
  ResumableVictim made;
  Victim& victim = made.victim;
  SUBCASE("of more than was sent") {
    made.take_send(1);
    made.send_control(1, ResumableVictim::ack(2));
    victim.expect(TerminateCode::kRdmapStreamCatastrophe, "WIRE_ERROR");
  }
  SUBCASE("of everything there could be") {
    made.send_control(1, ResumableVictim::ack(UINT64_MAX));
    victim.expect(TerminateCode::kRdmapStreamCatastrophe, "WIRE_ERROR");
  }
  SUBCASE("that goes back") {
    made.take_send(1);
    made.send_control(1, ResumableVictim::ack(1));
    victim.events.wait_sends(1);
    made.send_control(2, ResumableVictim::ack(0));
    victim.expect(TerminateCode::kRdmapStreamCatastrophe, "WIRE_ERROR");
  }
  SUBCASE("cut short") {
    made.send_control(1, Bytes(3));
    victim.expect(TerminateCode::kRdmapUnspecified, "WIRE_ERROR");
  }
  SUBCASE("of a wrong length") {
    Bytes payload = ResumableVictim::ack(0);
    payload.pop_back();
    made.send_control(1, payload);
    victim.expect(TerminateCode::kRdmapUnspecified, "WIRE_ERROR");
  }
  SUBCASE("too long") {
    made.send_control(1, Bytes(iwarp::kMostControl + 1));
    victim.expect(TerminateCode::kUntaggedTooLong, "WIRE_ERROR");
  }
  SUBCASE("of an unknown kind") {
    Bytes payload = ResumableVictim::ack(0);
    payload[0] = 9;
    made.send_control(1, payload);
    victim.expect(TerminateCode::kRdmapUnspecified, "WIRE_ERROR");
  }
  SUBCASE("a RESUME in the middle of a stream") {
    Bytes payload = ResumableVictim::ack(0);
    payload[0] = static_cast<uint8_t>(Control::kResume);
    made.send_control(1, payload);
    victim.expect(TerminateCode::kRdmapUnspecified, "WIRE_ERROR");
  }
  SUBCASE("with bits that mean nothing") {
    Bytes payload = ResumableVictim::ack(0);
    payload[2] = 1;
    made.send_control(1, payload);
    victim.expect(TerminateCode::kRdmapUnspecified, "WIRE_ERROR");
  }
  SUBCASE("with a wrong number") {
    made.send_control(2, ResumableVictim::ack(0));
    victim.expect(TerminateCode::kUntaggedInvalidMsn, "WIRE_ERROR");
  }
  SUBCASE("on another queue") {
    iwarp::DdpHeader header = iwarp::control_header(1);
    header.queue = 0;
    victim.peer.send(fpdu(header, ResumableVictim::ack(0)));
    victim.expect(TerminateCode::kUntaggedInvalidQueue, "WIRE_ERROR");
  }
  SUBCASE("in segments") {
    iwarp::DdpHeader header = iwarp::control_header(1);
    header.last = false;
    victim.peer.send(fpdu(header, ResumableVictim::ack(0)));
    victim.expect(TerminateCode::kUntaggedInvalidOffset, "WIRE_ERROR");
  }
  SUBCASE("a message after END") {
    Bytes end(iwarp::kEndSize);
    iwarp::encode_end(std::span<uint8_t, iwarp::kEndSize>(end.data(), end.size()));
    made.send_control(1, end);
    victim.peer.send(fpdu(send_header(1), pattern(10, 1)));
    victim.expect(TerminateCode::kRdmapUnexpectedOpcode, "WIRE_ERROR");
  }
  SUBCASE("the answer to a READ that was not sent yet acknowledges nothing") {
    victim.peer.send(fpdu(iwarp::control_header(1), ResumableVictim::ack(0)) +
                     fpdu(
                         [] {
                           iwarp::DdpHeader header = write_header(1, 0);
                           header.opcode = static_cast<uint8_t>(iwarp::RdmapOpcode::kReadResponse);
                           return header;
                         }(),
                         {}));
    victim.expect(TerminateCode::kRdmapUnexpectedOpcode, "WIRE_ERROR");
  }
}

TEST_CASE("a queue pair that was not made resumable knows no control messages, and says none") {
  Victim victim;
  victim.peer.send(fpdu(iwarp::control_header(1), ResumableVictim::ack(0)));
  victim.expect(TerminateCode::kRdmapUnexpectedOpcode, "WIRE_ERROR");
}

TEST_CASE("the tail is no part of anybody's private data, and one end alone makes nothing resumable") {
  auto provider = iwarp::make_provider();
  for (const bool active : {false, true}) {
    for (const bool passive : {false, true}) {
      PairOptions options;
      if (active) options.active = resumable();
      if (passive) options.passive = resumable();
      options.request_data = pattern(20, 1);
      options.reply_data = pattern(30, 2);
      Pair pair(*provider, options);
      CHECK(pair.request_data == options.request_data);
      CHECK(pair.passive_events.private_data() == options.request_data);
      CHECK(pair.active_events.private_data() == options.reply_data);
      for (const auto& each : {pair.active->info().detail, pair.passive->info().detail})
        CHECK((each.find("resumable") != std::string::npos) == (active && passive));
      pair.active->disconnect();
      pair.active_events.wait_closed();
      pair.passive_events.wait_closed();
      CHECK(pair.active_events.reason_text() == "an orderly end");
      CHECK(pair.passive_events.reason_text() == "an orderly end");
      pair.close();
    }
  }
}

TEST_CASE("a request completes when it is acknowledged, and not before") {
  ResumableVictim made;
  made.take_send(5);
  made.take_send(6);
  // Each SEND of the peer's makes the victim's processor look at its queues.
  made.victim.peer.send(fpdu(send_header(1), pattern(10, 1)));
  made.victim.events.wait_recvs(1);
  CHECK(made.victim.events.sends().empty());
  made.send_control(1, ResumableVictim::ack(1));
  made.victim.events.wait_sends(1);
  CHECK(made.victim.events.sends().size() == 1);
  made.send_control(2, ResumableVictim::ack(2));
  made.victim.events.wait_sends(2);
  CHECK(made.victim.events.sends()[1].wr_id == 6);
}

TEST_CASE("who attaches") {
  ResumableVictim made;
  Victim& victim = made.victim;
  victim.peer.send(fpdu(send_header(1), pattern(10, 1)));
  victim.events.wait_recvs(1);
  const auto still_works = [&](uint32_t msn) {
    victim.peer.send(fpdu(send_header(msn), pattern(10, 1)));
    victim.events.wait_recvs(msn);
    CHECK(victim.events.closed() == 0);
  };
  SUBCASE("to a queue pair that nobody has is told so") {
    iwarp::ResumeContext context = made.context(1);
    context.id = iwarp::random_bits();
    RawAttach stranger(made, context);
    const iwarp::MpaFrame reply = stranger.hear_reply();
    CHECK(reply.reject);
    CHECK(iwarp::is_unknown(reply.private_data));
    still_works(2);
  }
  SUBCASE("without the ticket gets nowhere, and disturbs nothing") {
    iwarp::ResumeContext context = made.context(1);
    context.ticket = iwarp::random_ticket();
    RawAttach forger(made, context);
    forger.resume({0, 2});
    CHECK(forger.peer.at_end());
    still_works(2);
  }
  SUBCASE("with a RESUME of another attachment gets nowhere") {
    RawAttach first(made, made.context(1));
    const Bytes said = first.resume({0, 2});
    CHECK(first.hear_resumed());
    // The same nonce and a higher epoch, or the same one: the answer's nonce is another.
    RawAttach replayer(made, made.context(2));
    replayer.context.asked = first.context.asked;
    replayer.hear_reply();
    replayer.peer.send(said);
    CHECK(replayer.peer.at_end());
  }
  SUBCASE("with an old epoch gets no answer") {
    RawAttach first(made, made.context(7));
    first.resume({0, 2});
    CHECK(first.hear_resumed());
    RawAttach stale(made, made.context(7));
    CHECK(stale.peer.at_end());
  }
  SUBCASE("twice at once: one of them is the carrier") {
    RawAttach first(made, made.context(1));
    RawAttach second(made, made.context(2));
    first.hear_reply();
    second.resume({0, 2});
    CHECK(second.hear_resumed()->rx_seq == 1);
    first.peer.send(iwarp::encode_resume(Control::kResume, first.context, {0, 2}));
    CHECK(first.peer.at_end());
    second.peer.send(fpdu(send_header(2), pattern(10, 1)));
    victim.events.wait_recvs(2);
  }
  SUBCASE("in crowds: the peer gets through, and the old carrier serves meanwhile") {
    std::vector<std::unique_ptr<RawAttach>> crowd;
    for (int at = 0; at < 20; ++at) crowd.push_back(std::make_unique<RawAttach>(made, made.context(50)));
    still_works(2);
    RawAttach peer(made, made.context(60));
    peer.resume({0, 3});
    CHECK(peer.hear_resumed()->rx_seq == 2);
  }
  SUBCASE("and has received what was never sent is given up") {
    RawAttach liar(made, made.context(1));
    liar.resume({5, 2});
    CHECK(liar.peer.receive_terminate() == TerminateCode::kRdmapStreamCatastrophe);
    liar.peer.close();
    victim.events.wait_closed();
    CHECK(victim.events.reason_code() == "WIRE_ERROR");
  }
  SUBCASE("and has not sent what came is given up") {
    RawAttach liar(made, made.context(1));
    liar.resume({0, 1});
    CHECK(liar.peer.receive_terminate() == TerminateCode::kRdmapStreamCatastrophe);
    liar.peer.close();
    victim.events.wait_closed();
    CHECK(victim.events.reason_code() == "WIRE_ERROR");
  }
  SUBCASE("and says another thing than RESUME gets nowhere") {
    RawAttach other(made, made.context(1));
    other.hear_reply();
    other.peer.send(fpdu(send_header(1), pattern(500, 1)));
    CHECK(other.peer.at_end());
    still_works(2);
  }
}

TEST_CASE("after the answer on the new carrier nothing lands that comes over the old one") {
  ResumableVictim made;
  Victim& victim = made.victim;
  // Half a WRITE, which counts for nothing.
  const uint32_t key = victim.region->region->rkey();
  victim.peer.send(fpdu(write_header(key, victim.region->address(), false), pattern(64, 1)));
  RawAttach next(made, made.context(1));
  next.resume({0, 1});
  CHECK(next.hear_resumed()->rx_seq == 0);
  victim.peer.send(fpdu(write_header(key, victim.region->address(1000)), pattern(64, 2)) +
                   fpdu(send_header(1), pattern(10, 3)));
  next.peer.send(fpdu(write_header(key, victim.region->address()), pattern(64, 4)) +
                 fpdu(send_header(1), pattern(10, 5)));
  victim.events.wait_recvs(1);
  CHECK(Bytes(victim.region->bytes.begin(), victim.region->bytes.begin() + 64) == pattern(64, 4));
  CHECK(Bytes(victim.region->bytes.begin() + 1000, victim.region->bytes.begin() + 1064) == Bytes(64, 0xee));
  CHECK(Bytes(victim.inbox->bytes.begin(), victim.inbox->bytes.begin() + 10) == pattern(10, 5));
  CHECK(victim.events.recvs().size() == 1);
}

TEST_CASE("what was not received comes again, with its old numbers; what was does not") {
  ResumableVictim made;
  made.take_send(1);
  made.take_send(2);
  made.take_send(3);
  RawAttach next(made, made.context(1));
  next.resume({1, 1});
  const auto here = next.hear_resumed();
  REQUIRE(here);
  CHECK(here->tx_next == 4);
  CHECK(next.peer.receive_fpdu().header.msn == 2);
  CHECK(next.peer.receive_fpdu().header.msn == 3);
  made.victim.events.wait_sends(1);
  CHECK(made.victim.events.sends().size() == 1);
  next.peer.send(fpdu(iwarp::control_header(2), ResumableVictim::ack(3)));
  made.victim.events.wait_sends(3);
}
