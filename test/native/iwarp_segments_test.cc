// Bytes that a hostile or broken peer sends after the handshake. Each must be answered with the right
// TERMINATE, end the connection with a typed error, and place nothing.
#include <doctest/doctest.h>

#include "support/victim.h"

using namespace rdma_migrate;
using namespace rdma_migrate::test;

namespace {

iwarp::DdpHeader with(iwarp::DdpHeader header, void (*change)(iwarp::DdpHeader&)) {
  change(header);
  return header;
}

}  // namespace

TEST_CASE("tagged segments that break the rules") {
  Victim victim;
  uint32_t stag = victim.region->region->rkey();
  uint64_t base = victim.region->address();
  Bytes payload = pattern(512, 1);
  SUBCASE("unknown STag") {
    victim.peer.send(fpdu(write_header(stag ^ 1, base), payload));
    victim.expect(TerminateCode::kTaggedInvalidStag, "REMOTE_ACCESS_ERROR");
  }
  SUBCASE("STag 0") {
    victim.peer.send(fpdu(write_header(0, base), payload));
    victim.expect(TerminateCode::kTaggedInvalidStag, "REMOTE_ACCESS_ERROR");
  }
  SUBCASE("one byte past the end") {
    victim.peer.send(fpdu(write_header(stag, base + Victim::kSize - 511), payload));
    victim.expect(TerminateCode::kTaggedBaseOrBounds, "REMOTE_ACCESS_ERROR");
  }
  SUBCASE("before the start") {
    victim.peer.send(fpdu(write_header(stag, base - 1), payload));
    victim.expect(TerminateCode::kTaggedBaseOrBounds, "REMOTE_ACCESS_ERROR");
  }
  SUBCASE("offset wraps") {
    victim.peer.send(fpdu(write_header(stag, UINT64_MAX - 510), payload));
    victim.expect(TerminateCode::kTaggedOffsetWrap, "REMOTE_ACCESS_ERROR");
  }
  SUBCASE("no remote write access") {
    Buffer other(victim.domain, 512, fabric::kAccessLocalWrite | fabric::kAccessRemoteRead);
    victim.peer.send(fpdu(write_header(other.region->rkey(), other.address()), payload));
    victim.expect(TerminateCode::kRdmapAccessRights, "REMOTE_ACCESS_ERROR");
    CHECK(other.bytes == Bytes(512, 0));
  }
  SUBCASE("DDP version") {
    victim.peer.send(
        fpdu(with(write_header(stag, base), [](auto& header) { header.ddp_version = 0; }), payload));
    victim.expect(TerminateCode::kTaggedInvalidVersion, "WIRE_ERROR");
  }
  SUBCASE("RDMAP version") {
    victim.peer.send(
        fpdu(with(write_header(stag, base), [](auto& header) { header.rdmap_version = 2; }), payload));
    victim.expect(TerminateCode::kRdmapInvalidVersion, "WIRE_ERROR");
  }
  SUBCASE("unknown opcode") {
    victim.peer.send(fpdu(with(write_header(stag, base), [](auto& header) { header.opcode = 9; }), payload));
    victim.expect(TerminateCode::kRdmapUnexpectedOpcode, "WIRE_ERROR");
  }
  SUBCASE("SEND in a tagged segment") {
    victim.peer.send(fpdu(with(write_header(stag, base), [](auto& header) { header.opcode = 3; }), payload));
    victim.expect(TerminateCode::kRdmapUnexpectedOpcode, "WIRE_ERROR");
  }
  SUBCASE("READ response that nobody asked for") {
    victim.peer.send(fpdu(with(write_header(stag, base), [](auto& header) { header.opcode = 2; }), payload));
    victim.expect(TerminateCode::kRdmapUnexpectedOpcode, "WIRE_ERROR");
  }
  CHECK(victim.untouched());
}

TEST_CASE("untagged segments that break the rules") {
  Victim victim;
  Bytes payload = pattern(512, 1);
  SUBCASE("DDP version") {
    victim.peer.send(fpdu(with(send_header(1), [](auto& header) { header.ddp_version = 3; }), payload));
    victim.expect(TerminateCode::kUntaggedInvalidVersion, "WIRE_ERROR");
  }
  SUBCASE("WRITE in an untagged segment") {
    victim.peer.send(fpdu(with(send_header(1), [](auto& header) { header.opcode = 0; }), payload));
    victim.expect(TerminateCode::kRdmapUnexpectedOpcode, "WIRE_ERROR");
  }
  SUBCASE("unknown queue") {
    victim.peer.send(fpdu(with(send_header(1), [](auto& header) { header.queue = 7; }), payload));
    victim.expect(TerminateCode::kUntaggedInvalidQueue, "WIRE_ERROR");
  }
  SUBCASE("SEND on the queue of READ requests") {
    victim.peer.send(fpdu(with(send_header(1), [](auto& header) { header.queue = 1; }), payload));
    victim.expect(TerminateCode::kUntaggedInvalidQueue, "WIRE_ERROR");
  }
  SUBCASE("message sequence number 0") {
    victim.peer.send(fpdu(send_header(0), payload));
    victim.expect(TerminateCode::kUntaggedInvalidMsn, "WIRE_ERROR");
  }
  SUBCASE("message sequence number skips one") {
    victim.peer.send(fpdu(send_header(2), payload));
    victim.expect(TerminateCode::kUntaggedInvalidMsn, "WIRE_ERROR");
  }
  SUBCASE("message offset where the message starts") {
    victim.peer.send(fpdu(send_header(1, true, 4), payload));
    victim.expect(TerminateCode::kUntaggedInvalidOffset, "WIRE_ERROR");
  }
  SUBCASE("message longer than the RECV") {
    victim.peer.send(fpdu(send_header(1), pattern(1001, 1)));
    victim.expect(TerminateCode::kUntaggedTooLong, "WIRE_ERROR");
  }
  SUBCASE("READ request with a wrong number") {
    victim.peer.send(fpdu(read_header(2), read_payload({})));
    victim.expect(TerminateCode::kUntaggedInvalidMsn, "WIRE_ERROR");
  }
  SUBCASE("READ request that is too long") {
    victim.peer.send(fpdu(read_header(1), Bytes(29)));
    victim.expect(TerminateCode::kUntaggedTooLong, "WIRE_ERROR");
  }
  SUBCASE("READ request that is cut short") {
    victim.peer.send(fpdu(read_header(1), Bytes(27)));
    victim.expect(TerminateCode::kRdmapUnspecified, "WIRE_ERROR");
  }
  SUBCASE("TERMINATE on a wrong queue") {
    victim.peer.send(fpdu(with(send_header(1), [](auto& header) { header.opcode = 7; }), Bytes(4)));
    victim.expect(TerminateCode::kUntaggedInvalidQueue, "WIRE_ERROR");
  }
  SUBCASE("SEND that invalidates an unknown STag") {
    victim.peer.send(fpdu(with(send_header(1),
                               [](auto& header) {
                                 header.opcode = 4;
                                 header.invalidate_stag = 5;
                               }),
                          {}));
    victim.expect(TerminateCode::kRdmapCannotInvalidate, "REMOTE_ACCESS_ERROR");
  }
  CHECK(victim.untouched());
}

TEST_CASE("a SEND in segments is checked segment by segment") {
  Victim victim;
  SUBCASE("gap in the offsets") {
    victim.peer.send(fpdu(send_header(1, false), pattern(100, 1)) +
                     fpdu(send_header(1, true, 104), pattern(100, 1)));
    victim.expect(TerminateCode::kUntaggedInvalidOffset, "WIRE_ERROR");
  }
  SUBCASE("repeated segment") {
    victim.peer.send(fpdu(send_header(1, false), pattern(100, 1)) +
                     fpdu(send_header(1, true), pattern(100, 1)));
    victim.expect(TerminateCode::kUntaggedInvalidOffset, "WIRE_ERROR");
  }
  SUBCASE("next message before the end of this one") {
    victim.peer.send(fpdu(send_header(1, false), pattern(100, 1)) + fpdu(send_header(2), pattern(100, 1)));
    victim.expect(TerminateCode::kUntaggedInvalidMsn, "WIRE_ERROR");
  }
  SUBCASE("too long in sum") {
    victim.peer.send(fpdu(send_header(1, false), pattern(600, 1)) +
                     fpdu(send_header(1, true, 600), pattern(600, 1)));
    victim.expect(TerminateCode::kUntaggedTooLong, "WIRE_ERROR");
  }
  CHECK(victim.events.recvs().size() == 2);
  for (const fabric::Completion& completion : victim.events.recvs())
    CHECK(completion.status == fabric::Status::kFlushed);
}

TEST_CASE("a SEND without a RECV") {
  Victim victim({}, {}, 1);
  victim.peer.send(fpdu(send_header(1), pattern(10, 1)) + fpdu(send_header(2), pattern(10, 1)));
  victim.expect(TerminateCode::kUntaggedNoBuffer, "WIRE_ERROR");
  CHECK(victim.events.recvs().size() == 1);
}

TEST_CASE("READ requests that break the rules carry their headers back in the TERMINATE") {
  Victim victim;
  iwarp::ReadRequest request{.sink_stag = 1,
                             .length = 100,
                             .source_stag = victim.region->region->rkey(),
                             .source_offset = victim.region->address()};
  TerminateCode expected = TerminateCode::kRdmapUnspecified;
  Buffer closed(victim.domain, 512, fabric::kAccessLocalWrite);
  SUBCASE("unknown STag") {
    request.source_stag ^= 1;
    expected = TerminateCode::kRdmapInvalidStag;
  }
  SUBCASE("no remote read access") {
    request.source_stag = closed.region->rkey();
    request.source_offset = closed.address();
    expected = TerminateCode::kRdmapAccessRights;
  }
  SUBCASE("past the end") {
    request.source_offset += Victim::kSize - 99;
    expected = TerminateCode::kRdmapBaseOrBounds;
  }
  SUBCASE("length that wraps") {
    request.source_offset = UINT64_MAX - 98;
    expected = TerminateCode::kRdmapOffsetWrap;
  }
  SUBCASE("length of 4 GiB") {
    request.length = UINT32_MAX;
    expected = TerminateCode::kRdmapBaseOrBounds;
  }
  victim.peer.send(fpdu(read_header(1), read_payload(request)));
  victim.expect(expected, "REMOTE_ACCESS_ERROR");
  const Bytes& payload = victim.peer.terminate.payload;
  REQUIRE(payload.size() == 4 + 2 + iwarp::kUntaggedSize + iwarp::kReadRequestSize);
  CHECK(payload[2] == 0xe0);
  CHECK(Bytes(payload.end() - iwarp::kReadRequestSize, payload.end()) == read_payload(request));
}

TEST_CASE("more READs at a time than were agreed are refused") {
  iwarp::MpaFrame handshake;
  handshake.enhanced = true;
  handshake.ord = 1;
  Victim victim(handshake);
  CHECK(victim.reply.ird == 1);
  Bytes flood;
  iwarp::ReadRequest request{.sink_stag = 1,
                             .length = Victim::kSize,
                             .source_stag = victim.region->region->rkey(),
                             .source_offset = victim.region->address()};
  // Nobody reads the answers, so that they pile up.
  for (uint32_t msn = 1; msn <= 200; ++msn) flood = flood + fpdu(read_header(msn), read_payload(request));
  victim.peer.send(flood);
  victim.events.wait_closed();
  CHECK(victim.events.reason_code() == "WIRE_ERROR");
}

TEST_CASE("FPDUs that hold no header") {
  for (size_t size : {0, 1, 13}) {
    CAPTURE(size);
    Victim victim;
    victim.peer.send(Bytes{0, static_cast<uint8_t>(size)} + Bytes(60, 0xc1));
    victim.expect(TerminateCode::kMpaLength, "WIRE_ERROR");
    CHECK(victim.peer.terminate.payload.size() == 4);
    CHECK(victim.untouched());
  }
  SUBCASE("untagged header cut short") {
    Victim victim;
    victim.peer.send(Bytes{0, 17, 0x41, 0x43} + Bytes(60, 0));
    victim.expect(TerminateCode::kMpaLength, "WIRE_ERROR");
  }
}

TEST_CASE("a wrong CRC is an error exactly where CRC is in use") {
  SUBCASE("in use: payload, pad and CRC field of a SEND") {
    Bytes good = fpdu(send_header(1), pattern(5, 1));
    for (size_t bit : {20 * 8, 24 * 8 + 7, 25 * 8, 27 * 8 + 3, 28 * 8, 31 * 8 + 7}) {
      CAPTURE(bit);
      Victim victim = Victim::with_crc();
      Bytes bad = good;
      bad[bit / 8] = static_cast<uint8_t>(bad[bit / 8] ^ 1 << bit % 8);
      victim.peer.send(bad);
      victim.expect(TerminateCode::kMpaCrc, "CRC_ERROR");
      CHECK(victim.events.recvs()[0].status == fabric::Status::kFlushed);
    }
  }
  SUBCASE("in use, a WRITE") {
    Victim victim = Victim::with_crc();
    Bytes bad =
        fpdu(write_header(victim.region->region->rkey(), victim.region->address()), pattern(60000, 1));
    bad[3000] ^= 1;
    victim.peer.send(bad);
    victim.expect(TerminateCode::kMpaCrc, "CRC_ERROR");
  }
  SUBCASE("not in use") {
    Victim victim;
    Bytes message = fpdu(send_header(1), pattern(5, 1));
    message.back() ^= 0xff;
    victim.peer.send(message);
    victim.events.wait_recvs(1);
    CHECK(victim.events.recvs()[0].byte_len == 5);
  }
}

TEST_CASE("READ responses for another place or length than was asked for are refused") {
  iwarp::MpaFrame handshake;
  handshake.enhanced = true;
  handshake.ird = 4;
  Victim victim(handshake);
  victim.queue_pair->post_send(rdma_of(fabric::Opcode::kRdmaRead, *victim.inbox, 0, 0x1000, 1, 100));
  RawPeer::Fpdu asked = victim.peer.receive_fpdu();
  REQUIRE(asked.payload.size() == iwarp::kReadRequestSize);
  iwarp::ReadRequest request =
      iwarp::decode_read_request(std::span(asked.payload).first<iwarp::kReadRequestSize>());
  CHECK(request.length == 100);
  iwarp::DdpHeader header = write_header(request.sink_stag, request.sink_offset);
  header.opcode = 2;
  TerminateCode expected = TerminateCode::kTaggedInvalidStag;
  size_t size = 100;
  SUBCASE("another STag") { header.stag = victim.region->region->rkey(); }
  SUBCASE("another offset") { header.target_offset += 1; }
  SUBCASE("too long") {
    size = 101;
    expected = TerminateCode::kTaggedBaseOrBounds;
  }
  SUBCASE("too short") {
    size = 99;
    expected = TerminateCode::kTaggedBaseOrBounds;
  }
  SUBCASE("no end") {
    header.last = false;
    expected = TerminateCode::kTaggedBaseOrBounds;
  }
  victim.peer.send(fpdu(header, pattern(size, 1)));
  victim.expect(expected, "REMOTE_ACCESS_ERROR");
  CHECK(victim.untouched());
}
