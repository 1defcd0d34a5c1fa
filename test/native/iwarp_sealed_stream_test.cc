// What an attacker on the way, or a peer that breaks the rules, may do to a protected stream.
#include <doctest/doctest.h>

#include <random>

#include "engine/file_backing.h"
#include "memory/mapping.h"
#include "support/sealed_victim.h"

using namespace rdma_migrate;
using namespace rdma_migrate::test;

namespace {

// Two WRITEs and a SEND.
Bytes stream_for(const SealedVictim& victim) {
  const uint32_t stag = victim.region->region->rkey();
  const uint64_t base = victim.region->address();
  return fpdu(write_header(stag, base), pattern(3000, 1)) +
         fpdu(write_header(stag, base + 3000), pattern(2000, 2)) + fpdu(send_header(1), pattern(500, 3));
}

// The bytes of the region are what the stream says up to some point of it, and untouched from there on.
void check_prefix(const SealedVictim& victim, size_t most) {
  const Bytes wanted = pattern(3000, 1) + pattern(2000, 2);
  const Bytes& has = victim.region->bytes;
  size_t placed = 0;
  while (placed < wanted.size() && has[placed] == wanted[placed]) ++placed;
  // A byte that was not placed may be the wanted one by chance.
  CHECK(std::count(has.begin() + static_cast<ptrdiff_t>(placed), has.end(), 0xee) ==
        static_cast<ptrdiff_t>(has.size() - placed));
  CHECK(placed <= most);
}

Bytes read_of(uint32_t stag, uint64_t at, uint32_t length) {
  return read_payload({.sink_stag = 1, .length = length, .source_stag = stag, .source_offset = at});
}

fabric::QueuePairOptions with_stall(uint32_t milliseconds) {
  fabric::QueuePairOptions options;
  options.stall_timeout_ms = milliseconds;
  return options;
}

}  // namespace

TEST_CASE("records arrive, split anywhere, and are answered in records") {
  for (const size_t piece : {size_t{1}, size_t{7}, size_t{1448}, size_t{100'000}}) {
    CAPTURE(piece);
    SealedVictim victim({}, 3);
    Bytes stream = victim.sealed(stream_for(victim), 600);
    stream = stream + seal_end(victim.writer);
    victim.peer.send_in_pieces(stream, piece, std::chrono::microseconds(piece < 100 ? 20 : 300));
    victim.events.wait_recvs(1);
    CHECK(victim.events.recvs()[0].byte_len == 500);
    CHECK(Bytes(victim.region->bytes.begin(), victim.region->bytes.begin() + 5000) ==
          pattern(3000, 1) + pattern(2000, 2));
    victim.queue_pair->post_send(send_of(*victim.inbox, 500));
    CHECK(victim.receive(520).size() == 520);
    victim.peer.finish();
    victim.events.wait_closed();
    CHECK(victim.events.reason_text() == "an orderly end");
    CHECK(victim.receive(1'000'000).size() == 4);  // the trailer
    CHECK(victim.reader.ended());
  }
}

TEST_CASE("records may come before the victim knows of them") {
  iwarp::RecordWriter writer(active_protection());
  fabric::QueuePairOptions options;
  options.hold_until_protected = true;
  Victim held({}, options);
  // The last message in the clear and 200 KiB of records, in one piece.
  Bytes payloads;
  Bytes clear = fpdu(send_header(1), pattern(30, 1));
  for (size_t at = 0; at < 5; ++at) {
    payloads =
        payloads + fpdu(write_header(held.region->region->rkey(), held.region->address() + at * 40'000),
                        pattern(40'000, at));
  }
  held.peer.send(clear + seal_all(writer, payloads + fpdu(send_header(2), pattern(10, 1))));
  held.events.wait_recvs(1);
  held.queue_pair->protect(passive_protection());
  held.events.wait_recvs(2);
  for (size_t at = 0; at < 5; ++at) {
    const auto from = held.region->bytes.begin() + static_cast<ptrdiff_t>(at * 40'000);
    CHECK(Bytes(from, from + 40'000) == pattern(40'000, at));
  }
}

TEST_CASE("nothing is held any more once the victim knows that no records follow") {
  fabric::QueuePairOptions options;
  options.hold_until_protected = true;
  Victim held({}, options, 4);
  const iwarp::DdpHeader write = write_header(held.region->region->rkey(), held.region->address());
  held.peer.send(fpdu(send_header(1), {}));
  held.events.wait_recvs(1);
  held.queue_pair->resume_receive(true);
  held.peer.send(fpdu(send_header(2), {}) + fpdu(write, Bytes(50, 1)) + fpdu(send_header(3), {}) +
                 fpdu(send_header(4), {}));
  held.events.wait_recvs(4);
  CHECK(held.region->bytes[49] == 1);
}

TEST_CASE("a peer that nobody knows yet is refused when it uses a key") {
  fabric::QueuePairOptions options;
  options.hold_until_protected = true;
  Victim held({}, options);
  SUBCASE("to write") {
    held.peer.send(fpdu(write_header(held.region->region->rkey(), held.region->address()), Bytes(5)));
  }
  SUBCASE("to read") {
    held.peer.send(fpdu(read_header(1), read_of(held.region->region->rkey(), held.region->address(), 5)));
  }
  held.expect(TerminateCode::kRdmapAccessRights, "REMOTE_ACCESS_ERROR");
  CHECK(held.untouched());
}

TEST_CASE("a held peer that leaves does not stay") {
  fabric::QueuePairOptions options;
  options.hold_until_protected = true;
  options.stall_timeout_ms = 600'000;
  Victim held({}, options);
  SUBCASE("by itself") { held.peer.send(fpdu(send_header(1), {})); }
  SUBCASE("with words that nobody wants, when the victim leaves too") {
    held.peer.send(fpdu(send_header(1), {}) + fpdu(send_header(2), {}));
    held.events.wait_recvs(1);
    held.queue_pair->disconnect();
  }
  held.events.wait_recvs(1);
  held.peer.finish();
  held.events.wait_closed();
  CHECK(held.events.reason_text() == "an orderly end");
}

TEST_CASE("a READ that comes while the victim says its end holds nothing up") {
  for (const size_t mebibytes_before : {0, 1, 2, 3, 4}) {
    CAPTURE(mebibytes_before);
    fabric::QueuePairOptions options;
    options.stall_timeout_ms = 600'000;
    SealedVictim victim(options);
    victim.events.recv_hook = [&](const fabric::Completion&) { victim.queue_pair->disconnect(); };
    const uint32_t stag = victim.region->region->rkey();
    const uint64_t base = victim.region->address();
    Bytes stream = fpdu(send_header(1), {});
    for (size_t at = 0; at < mebibytes_before * 32; ++at)
      stream = stream + fpdu(write_header(stag, base), Bytes(32'768));
    victim.send(stream + fpdu(read_header(1), read_of(stag, base, 5)));
    victim.receive(1'000'000);
    CHECK(victim.reader.ended());
    victim.peer.send(seal_end(victim.writer));
    victim.peer.finish();
    victim.events.wait_closed();
    CHECK(victim.events.reason_text() == "an orderly end");
  }
}

TEST_CASE("a bit that is flipped anywhere ends the connection, and no byte of its record is placed") {
  const size_t total = 5000 + 3 * 22 + 600;
  for (size_t at = 0; at < total; at += 37) {
    CAPTURE(at);
    SealedVictim victim;
    Bytes stream = victim.sealed(stream_for(victim), 1000);
    const size_t record = at / 1022;
    if (at >= stream.size()) break;
    stream[at] ^= static_cast<uint8_t>(1 << at % 8);
    victim.peer.send(stream + Bytes(20'000));  // a length that has grown waits for more
    victim.expect_refused();
    check_prefix(victim, record * 1000);
    CHECK(victim.inbox->bytes == Bytes(1000, 0xee));
  }
}

TEST_CASE("records that are replayed, reordered, left out or from a reflection end the connection") {
  SealedVictim victim;
  const uint32_t stag = victim.region->region->rkey();
  const auto record = [&](size_t number) {
    return victim.sealed(fpdu(write_header(stag, victim.region->address() + number * 100), Bytes(100, 1)));
  };
  const Bytes first = record(0);
  const Bytes second = record(1);
  const Bytes third = record(2);
  size_t placed = 0;
  SUBCASE("replayed") {
    victim.peer.send(first + first);
    placed = 100;
  }
  SUBCASE("reordered") { victim.peer.send(second + first + third); }
  SUBCASE("left out") {
    victim.peer.send(first + third);
    placed = 100;
  }
  SUBCASE("reflected") {
    victim.queue_pair->post_send(send_of(*victim.inbox, 10));
    const Bytes own = victim.peer.receive(5);
    REQUIRE(own.size() == 5);
    const Bytes rest = victim.peer.receive(static_cast<size_t>(own[3] << 8 | own[4]));
    victim.peer.send(own + rest);
    std::copy(own.begin(), own.end(), victim.reader.stream().room());
    victim.reader.stream().filled(5);
    std::copy(rest.begin(), rest.end(), victim.reader.stream().room());
    victim.reader.stream().filled(rest.size());
    Bytes out(iwarp::kMaxRecordInner);
    REQUIRE(victim.reader.open(out.data()) != 0);
  }
  victim.expect_refused();
  CHECK(std::count(victim.region->bytes.begin(), victim.region->bytes.end(), 1) ==
        static_cast<ptrdiff_t>(placed));
}

TEST_CASE("a peer that goes on in the clear is refused before a byte is placed") {
  SealedVictim victim;
  victim.peer.send(stream_for(victim));
  victim.expect_refused();
  CHECK(victim.untouched());
}

TEST_CASE("the end of a stream counts only if the peer has said it") {
  SUBCASE("between messages") {
    SealedVictim victim;
    victim.send(stream_for(victim));
    victim.events.wait_recvs(1);
    victim.peer.finish();
    victim.events.wait_closed();
    CHECK(victim.events.reason_code() == "CONNECTION_LOST");
    CHECK(victim.events.reason_text().find("without saying so") != std::string::npos);
  }
  SUBCASE("anywhere") {
    for (const size_t cut : {0, 1, 4, 5, 6, 500, 621, 622, 623, 1244, 3000}) {
      CAPTURE(cut);
      SealedVictim victim;
      Bytes stream = victim.sealed(stream_for(victim), 600);
      stream.resize(cut);
      victim.peer.send(stream);
      victim.peer.finish();
      victim.events.wait_closed();
      CHECK(victim.events.reason_code() == "CONNECTION_LOST");
      check_prefix(victim, cut / 622 * 600);
    }
  }
  SUBCASE("in the middle of a message, though the peer has said it") {
    SealedVictim victim;
    Bytes clear = stream_for(victim);
    clear.resize(4000);
    victim.send(clear);
    victim.peer.send(seal_end(victim.writer));
    victim.peer.finish();
    victim.events.wait_closed();
    CHECK(victim.events.reason_code() == "CONNECTION_LOST");
  }
  SUBCASE("and nothing may follow") {
    SealedVictim victim;
    const Bytes end = seal_end(victim.writer);
    victim.peer.send(end + victim.sealed(stream_for(victim)));
    victim.expect_refused();
    CHECK(victim.untouched());
  }
}

TEST_CASE("what breaks the rules inside of good records is refused as without them") {
  SealedVictim victim;
  SUBCASE("a WRITE out of bounds") {
    victim.send(fpdu(
        write_header(victim.region->region->rkey(), victim.region->address() + Victim::kSize - 5), Bytes(6)));
    victim.expect_sealed(TerminateCode::kTaggedBaseOrBounds, "REMOTE_ACCESS_ERROR");
  }
  SUBCASE("a key that is unknown") {
    victim.send(fpdu(write_header(12345, victim.region->address()), Bytes(6)));
    victim.expect_sealed(TerminateCode::kTaggedInvalidStag, "REMOTE_ACCESS_ERROR");
  }
  SUBCASE("a SEND without a RECV") {
    victim.send(fpdu(send_header(1), {}) + fpdu(send_header(2), {}) + fpdu(send_header(3), {}));
    victim.expect_sealed(TerminateCode::kUntaggedNoBuffer, "WIRE_ERROR");
  }
  CHECK(victim.untouched());
}

TEST_CASE("the peer's TERMINATE is taken from its record") {
  SealedVictim victim;
  iwarp::DdpHeader header = send_header(1);
  header.opcode = static_cast<uint8_t>(iwarp::RdmapOpcode::kTerminate);
  header.queue = 2;
  victim.send(fpdu(header, iwarp::encode_terminate(TerminateCode::kRdmapUnspecified, {}, 0, {})));
  victim.events.wait_closed();
  CHECK(victim.events.reason_code() == "TERMINATE_RECEIVED");
}

TEST_CASE("a record that stalls or trickles is a stall") {
  SealedVictim victim(with_stall(300));
  const Bytes stream = victim.sealed(stream_for(victim));
  SUBCASE("in its head") { victim.peer.send(Bytes(stream.begin(), stream.begin() + 3)); }
  SUBCASE("before its tag") { victim.peer.send(Bytes(stream.begin(), stream.end() - 1)); }
  SUBCASE("byte by byte") {
    size_t at = 0;
    while (victim.events.closed() == 0 && at < 5000) {
      victim.peer.send({stream[at++]});
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }
  SUBCASE("between the records of a segment") {
    const Bytes segment = fpdu(send_header(1), pattern(100, 1));
    SealedVictim other(with_stall(300));
    other.send(Bytes(segment.begin(), segment.begin() + 10));
    other.events.wait_closed();
    CHECK(other.events.reason_code() == "TIMEOUT");
    return;
  }
  victim.events.wait_closed();
  CHECK(victim.events.reason_code() == "TIMEOUT");
  CHECK(victim.untouched());
}

TEST_CASE("a long record on a slow path is no stall") {
  SealedVictim victim(with_stall(2000));
  const Bytes clear =
      fpdu(write_header(victim.region->region->rkey(), victim.region->address()), pattern(8000, 1)) +
      fpdu(send_header(1), {});
  victim.peer.send_in_pieces(victim.sealed(clear), 250, std::chrono::milliseconds(100));
  victim.events.wait_recvs(1);
  CHECK(victim.events.recvs()[0].status == fabric::Status::kSuccess);
}

TEST_CASE("a peer that takes no records is a stall") {
  SealedVictim victim(with_stall(300));
  Buffer large(victim.domain, 64 << 20, 0);
  victim.queue_pair->post_send(send_of(large, large.bytes.size()));
  victim.events.wait_closed();
  CHECK(victim.events.reason_code() == "TIMEOUT");
}

TEST_CASE("a peer that reads nothing of its end does not hold up a disconnect") {
  SealedVictim victim(with_stall(300));
  Buffer large(victim.domain, 64 << 20, 0);
  victim.queue_pair->post_send(send_of(large, large.bytes.size()));
  victim.queue_pair->disconnect();
  victim.events.wait_closed();
  CHECK(victim.events.closed() == 1);
}

TEST_CASE("records fill pages of a file that hold nothing yet") {
  SealedVictim victim;
  constexpr size_t kLength = 4 << 20;
  const auto mapping = memory::Mapping::memfd("sealed", kLength);
  const auto backing = engine::FileBacking::of(*mapping);
  const auto region = victim.domain->register_mapped(mapping->address(), kLength, kRemoteAll, backing);
  Bytes wanted;
  Bytes stream;
  for (size_t at = 0; at < kLength; at += 32'768) {
    const Bytes payload = pattern(32'768, at);
    wanted.insert(wanted.end(), payload.begin(), payload.end());
    const Bytes segment = fpdu(write_header(region->rkey(), mapping->address() + at), payload);
    stream.insert(stream.end(), segment.begin(), segment.end());
  }
  victim.send(stream + fpdu(send_header(1), {}));
  victim.events.wait_recvs(1);
  const auto* bytes = reinterpret_cast<const uint8_t*>(mapping->address());
  CHECK(std::equal(wanted.begin(), wanted.end(), bytes));
  victim.queue_pair->close();
}

TEST_CASE("streams that are damaged at random place only what was sealed") {
  const uint64_t seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  for (int round = 0; round < 60; ++round) {
    CAPTURE(round);
    SealedVictim victim({}, 1 + random() % 5);
    Bytes stream = victim.sealed(stream_for(victim), 1 + random() % 3000);
    const auto at = static_cast<ptrdiff_t>(random() % stream.size());
    if (random() % 2 == 0) {
      stream[static_cast<size_t>(at)] ^= static_cast<uint8_t>(1 + random() % 255);
    } else {
      stream.erase(stream.begin() + at, stream.begin() + at + 1);
    }
    victim.peer.send_in_pieces(stream, 1 + random() % 4000, std::chrono::microseconds(50));
    victim.peer.finish();
    victim.events.wait_closed();
    CHECK((victim.events.reason_code() == "INTEGRITY_ERROR" ||
           victim.events.reason_code() == "CONNECTION_LOST"));
    check_prefix(victim, 5000);
  }
}
