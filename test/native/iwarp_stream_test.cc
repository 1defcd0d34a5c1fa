// The stream of a peer's messages: split anywhere, glued, stalled, ended in every way; and memory that cannot
// be written.
#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "support/cut_file.h"
#include "support/victim.h"

using namespace rdma_migrate;
using namespace rdma_migrate::test;

namespace {

iwarp::DdpHeader with(iwarp::DdpHeader header, void (*change)(iwarp::DdpHeader&)) {
  change(header);
  return header;
}

}  // namespace

TEST_CASE("a stream of messages may be split at every byte") {
  Bytes first = pattern(7, 1);
  Bytes second = pattern(300, 2);
  Bytes third = pattern(1, 3);
  for (bool crc : {false, true}) {
    CAPTURE(crc);
    for (size_t split = 0;; ++split) {
      CAPTURE(split);
      Victim victim = crc ? Victim::with_crc() : Victim();
      uint32_t stag = victim.region->region->rkey();
      uint64_t base = victim.region->address();
      Bytes stream = fpdu(send_header(1), first) + fpdu(write_header(stag, base + 1, false), second) +
                     fpdu(write_header(stag, base + 301), second) + fpdu(send_header(2), third);
      if (split > stream.size()) break;
      auto at = stream.begin() + static_cast<ptrdiff_t>(split);
      victim.peer.send(Bytes(stream.begin(), at));
      if (split % 3 == 0) std::this_thread::sleep_for(std::chrono::microseconds(300));
      victim.peer.send(Bytes(at, stream.end()));
      victim.events.wait_recvs(2);
      CHECK(victim.events.recvs()[0].byte_len == 7);
      CHECK(victim.events.recvs()[1].byte_len == 1);
      CHECK(victim.inbox->bytes[0] == third[0]);
      CHECK(Bytes(victim.region->bytes.begin() + 1, victim.region->bytes.begin() + 601) == second + second);
      CHECK(victim.region->bytes[0] == 0xee);
      CHECK(victim.region->bytes[601] == 0xee);
      victim.peer.finish();
      victim.events.wait_closed();
      CHECK(victim.events.reason_text() == "an orderly end");
    }
  }
}

TEST_CASE("messages that drip in byte by byte arrive") {
  Victim victim = Victim::with_crc();
  Bytes stream = fpdu(send_header(1), pattern(20, 1)) +
                 fpdu(write_header(victim.region->region->rkey(), victim.region->address()), pattern(50, 2)) +
                 fpdu(send_header(2), pattern(30, 3));
  victim.peer.send_in_pieces(stream, 1, std::chrono::microseconds(100));
  victim.events.wait_recvs(2);
  CHECK(Bytes(victim.region->bytes.begin(), victim.region->bytes.begin() + 50) == pattern(50, 2));
}

TEST_CASE("many small messages glued together arrive in order") {
  Victim victim;
  Bytes stream;
  uint32_t stag = victim.region->region->rkey();
  Bytes expected(Victim::kSize, 0xee);
  for (uint64_t index = 0; index < 2000; ++index) {
    Bytes payload = pattern(index % 90, index);
    stream = stream + fpdu(write_header(stag, victim.region->address() + index * 100), payload);
    std::copy(payload.begin(), payload.end(), expected.begin() + static_cast<ptrdiff_t>(index * 100));
  }
  victim.peer.send(stream + fpdu(send_header(1), {}));
  victim.events.wait_recvs(1);
  CHECK(victim.region->bytes == expected);
}

TEST_CASE("SEND with solicited event and with invalidate") {
  Victim victim;
  uint32_t stag = victim.region->region->rkey();
  victim.peer.send(fpdu(with(send_header(1), [](auto& header) { header.opcode = 5; }), pattern(9, 1)));
  victim.events.wait_recvs(1);
  iwarp::DdpHeader invalidate = send_header(2);
  invalidate.opcode = 6;
  invalidate.invalidate_stag = stag;
  victim.peer.send(fpdu(invalidate, pattern(8, 1)));
  victim.events.wait_recvs(2);
  CHECK(victim.events.recvs()[1].status == fabric::Status::kSuccess);
  victim.peer.send(fpdu(write_header(stag, victim.region->address()), pattern(8, 1)));
  victim.expect(TerminateCode::kRdmapAccessRights, "REMOTE_ACCESS_ERROR");
  CHECK(victim.region->bytes == Bytes(Victim::kSize, 0xee));
}

TEST_CASE(
    "a WRITE that is under way when the rights are revoked is counted as far as it landed, and refused") {
  constexpr size_t kSize = 40000;
  constexpr size_t kHalf = 20000;
  Victim victim;
  const Bytes payload = pattern(kSize, 6);
  const Bytes stream = fpdu(write_header(victim.region->region->rkey(), victim.region->address()), payload);
  victim.peer.send(Bytes(stream.begin(), stream.begin() + kHalf));
  const auto& placed = victim.queue_pair->counters().write_bytes_placed;
  // Not before a part of it has landed: then its header has been found good.
  while (placed == 0) std::this_thread::yield();
  victim.domain->revoke_remote_access();
  const uint64_t landed = placed;
  victim.peer.send(Bytes(stream.begin() + kHalf, stream.end()));
  CHECK(victim.peer.receive_terminate() == TerminateCode::kTaggedInvalidStag);
  victim.peer.close();
  victim.events.wait_closed();
  CHECK(victim.events.reason_code() == "REMOTE_ACCESS_ERROR");
  CHECK(placed == landed);
  Bytes expected(Victim::kSize, 0xee);
  std::copy_n(payload.begin(), landed, expected.begin());
  CHECK(victim.region->bytes == expected);
}

TEST_CASE("the ways a peer's stream can end") {
  SUBCASE("between messages: in order") {
    Victim victim;
    victim.peer.send(fpdu(send_header(1), {}));
    victim.peer.finish();
    victim.events.wait_closed();
    CHECK(victim.events.reason_text() == "an orderly end");
    CHECK(victim.events.recvs().size() == 2);
  }
  SUBCASE("in the middle of an FPDU") {
    Bytes message = fpdu(send_header(1), pattern(100, 1));
    for (size_t cut :
         {size_t{1}, size_t{3}, size_t{19}, size_t{20}, size_t{60}, message.size() - 5, message.size() - 1}) {
      CAPTURE(cut);
      Victim victim;
      victim.peer.send(Bytes(message.begin(), message.begin() + static_cast<ptrdiff_t>(cut)));
      victim.peer.finish();
      victim.events.wait_closed();
      CHECK(victim.events.reason_code() == "CONNECTION_LOST");
    }
  }
  SUBCASE("between the segments of a message") {
    Victim victim;
    victim.peer.send(fpdu(send_header(1, false), pattern(100, 1)));
    victim.peer.finish();
    victim.events.wait_closed();
    CHECK(victim.events.reason_code() == "CONNECTION_LOST");
  }
  SUBCASE("reset") {
    Victim victim;
    victim.peer.reset();
    victim.events.wait_closed();
    CHECK(victim.events.reason_code() == "CONNECTION_LOST");
  }
  SUBCASE("TERMINATE, in words") {
    Victim victim;
    iwarp::DdpHeader header = send_header(1);
    header.opcode = 7;
    header.queue = 2;
    victim.peer.send(fpdu(header, iwarp::encode_terminate(TerminateCode::kTaggedBaseOrBounds, {}, 0, {})));
    victim.events.wait_closed();
    CHECK(victim.events.reason_code() == "TERMINATE_RECEIVED");
    CHECK(victim.events.reason_text().find("base or bounds") != std::string::npos);
  }
}

TEST_CASE("stalls end in TIMEOUT, silence between messages does not") {
  fabric::QueuePairOptions options;
  options.stall_timeout_ms = 150;
  SUBCASE("in the middle of an FPDU") {
    Victim victim({}, options);
    victim.peer.send({0, 30, 0x41});
    victim.events.wait_closed();
    CHECK(victim.events.reason_code() == "TIMEOUT");
  }
  SUBCASE("between the segments of a message") {
    Victim victim({}, options);
    victim.peer.send(fpdu(send_header(1, false), pattern(10, 1)));
    victim.events.wait_closed();
    CHECK(victim.events.reason_code() == "TIMEOUT");
  }
  SUBCASE("a peer that takes no data") {
    Victim victim({}, options);
    Buffer large(victim.domain, 64 << 20, 0);
    victim.queue_pair->post_send(send_of(large, large.bytes.size()));
    victim.events.wait_closed();
    CHECK((victim.events.reason_code() == "TIMEOUT" || victim.events.reason_code() == "CONNECTION_LOST"));
    CHECK(victim.events.sends().size() == 1);
  }
  SUBCASE("a READ that is not answered") {
    iwarp::MpaFrame handshake;
    handshake.enhanced = true;
    handshake.ird = 1;
    Victim victim(handshake, options);
    victim.queue_pair->post_send(rdma_of(fabric::Opcode::kRdmaRead, *victim.inbox, 0, 0, 1, 100));
    victim.events.wait_closed();
    CHECK(victim.events.reason_code() == "TIMEOUT");
    CHECK(victim.events.sends()[0].status == fabric::Status::kFlushed);
  }
  SUBCASE("disconnect from a peer that does not answer") {
    Victim victim({}, options);
    victim.queue_pair->disconnect();
    victim.events.wait_closed();
    CHECK(victim.events.reason_text() == "an orderly end");
  }
  SUBCASE("silence") {
    Victim victim({}, options);
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    victim.peer.send(fpdu(send_header(1), {}));
    victim.events.wait_recvs(1);
    CHECK(victim.events.closed() == 0);
  }
}

TEST_CASE("registered memory whose file was cut ends the connection with IO_ERROR, not the process") {
  constexpr size_t kFile = 1 << 20;
  constexpr size_t kLarge = 60'000;
  for (bool crc : {false, true}) {
    CAPTURE(crc);
    for (size_t size : {size_t{100}, kLarge}) {
      CAPTURE(size);
      Victim victim = crc ? Victim::with_crc() : Victim();
      int file = memfd_create("cut", MFD_CLOEXEC);
      REQUIRE(ftruncate(file, kFile) == 0);
      void* memory = mmap(nullptr, kFile, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
      REQUIRE(memory != MAP_FAILED);
      auto region = victim.domain->register_memory(reinterpret_cast<uintptr_t>(memory), kFile, kRemoteAll);
      REQUIRE(ftruncate(file, 0) == 0);
      victim.peer.send(fpdu(write_header(region->rkey(), region->address()), pattern(size, 1)));
      victim.events.wait_receive_failed();
      // Why can be told to the peer still, however much of its own is on the way.
      victim.peer.send(fpdu(write_header(region->rkey(), region->address()), pattern(size, 2)));
      victim.queue_pair->post_send(send_of(*victim.inbox, 8));
      victim.queue_pair->disconnect();
      CHECK(victim.peer.receive_fpdu().payload == Bytes(8, 0xee));
      CHECK(victim.peer.at_end());
      victim.peer.close();
      victim.events.wait_closed();
      CHECK(victim.events.reason_code() == "IO_ERROR");
      CHECK(victim.events.reason_text().find("memfd:cut") != std::string::npos);
      region.reset();
      munmap(memory, kFile);
      close(file);
    }
  }
}

TEST_CASE("memory to be sent whose file was cut ends the connection with IO_ERROR, not the process") {
  constexpr uint32_t kSize = 64 * 4096;
  for (bool crc : {false, true}) {
    CAPTURE(crc);
    for (fabric::Opcode opcode :
         {fabric::Opcode::kSend, fabric::Opcode::kRdmaWrite, fabric::Opcode::kRdmaRead}) {
      CAPTURE(static_cast<int>(opcode));
      iwarp::MpaFrame handshake;
      handshake.crc = crc;
      handshake.enhanced = true;
      handshake.ord = 1;
      Victim victim(handshake);
      CutFile file(64);
      auto region = victim.domain->register_memory(file.address(), file.size(), kRemoteAll);
      file.cut(40);
      const bool read = opcode == fabric::Opcode::kRdmaRead;
      if (read) {
        // The peer's READ, which is answered from that memory.
        victim.peer.send(fpdu(read_header(1), read_payload({.sink_stag = 1,
                                                            .sink_offset = 0,
                                                            .length = kSize,
                                                            .source_stag = region->rkey(),
                                                            .source_offset = region->address()})));
      } else {
        fabric::SendWorkRequest request;
        request.opcode = opcode;
        request.address = region->address();
        request.length = kSize;
        request.lkey = region->lkey();
        victim.queue_pair->post_send(request);
      }
      victim.events.wait_closed();
      CHECK(victim.events.reason_code() == "IO_ERROR");
      CHECK(victim.events.reason_text().find("read memory mapped from '/memfd:cut") != std::string::npos);
      if (!read) CHECK(victim.events.sends().at(0).status == fabric::Status::kError);
      region.reset();
    }
  }
}

TEST_CASE(
    "a peer that ends the stream in the middle of a message is answered with a reset, between messages in "
    "order") {
  constexpr uint32_t kSize = 4096;
  iwarp::MpaFrame handshake;
  handshake.enhanced = true;
  for (size_t cut : {size_t{0}, size_t{1}, size_t{100}}) {
    CAPTURE(cut);
    Victim victim(handshake);
    fabric::Bytes memory(kSize);
    auto region =
        victim.domain->register_memory(reinterpret_cast<uintptr_t>(memory.data()), kSize, kRemoteAll);
    Bytes write = fpdu(write_header(region->rkey(), region->address()), pattern(kSize, 1));
    write.resize(write.size() - cut);
    victim.peer.send(write);
    victim.peer.finish();
    CHECK(victim.peer.ends_in_reset() == (cut != 0));
    victim.events.wait_closed();
    CHECK(victim.events.reason_code() == (cut == 0 ? "" : "CONNECTION_LOST"));
    region.reset();
  }
}
