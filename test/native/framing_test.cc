// The codecs of MPA, DDP, RDMAP and TERMINATE against bytes written by hand, and against every truncation.
#include <doctest/doctest.h>

#include <cstring>
#include <random>
#include <string>

#include "iwarp/ddp.h"
#include "iwarp/mpa.h"
#include "iwarp/terminate.h"

using namespace rdma_migrate;
using namespace rdma_migrate::iwarp;
using fabric::Bytes;

namespace {

Bytes text(const std::string& characters) { return Bytes(characters.begin(), characters.end()); }

Bytes join(Bytes left, const Bytes& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

}  // namespace

TEST_CASE("an MPA request as siw sends it") {
  // S, IRD 0, ORD 2 and QEMU's capabilities: version 1, flags 1.
  Bytes wire = join(text("MPA ID Req Frame"), {0x10, 2, 0, 12, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1});
  MpaFrame frame = decode_mpa(wire, MpaKind::kRequest);
  CHECK(frame.revision == 2);
  CHECK(frame.enhanced);
  CHECK_FALSE(frame.crc);
  CHECK_FALSE(frame.markers);
  CHECK_FALSE(frame.peer_to_peer);
  CHECK(frame.ird == 0);
  CHECK(frame.ord == 2);
  CHECK(frame.private_data == Bytes{0, 0, 0, 1, 0, 0, 0, 1});
  CHECK(encode(frame) == wire);
}

TEST_CASE("every flag and control bit of MPA has its place") {
  MpaFrame frame;
  frame.kind = MpaKind::kReply;
  frame.enhanced = frame.crc = frame.markers = frame.reject = true;
  frame.ird = 0x0102;
  frame.ord = 0x0304;
  Bytes plain = join(text("MPA ID Rep Frame"), {0xf0, 2, 0, 4, 0x01, 0x02, 0x03, 0x04});
  CHECK(encode(frame) == plain);
  frame.peer_to_peer = true;
  CHECK(encode(frame)[20] == 0x81);
  frame.rtr_send = true;
  CHECK(encode(frame)[20] == 0xc1);
  frame.rtr_write = true;
  CHECK(encode(frame)[22] == 0x83);
  frame.rtr_read = true;
  CHECK(encode(frame)[22] == 0xc3);
  MpaFrame back = decode_mpa(encode(frame), MpaKind::kReply);
  CHECK((back.peer_to_peer && back.rtr_send && back.rtr_write && back.rtr_read && back.reject && back.crc &&
         back.markers));
  CHECK(back.ird == 0x0102);
  CHECK(back.ord == 0x0304);
}

TEST_CASE("MPA revision 1 has no depths, whatever the flag says") {
  Bytes wire = join(text("MPA ID Req Frame"), {0x50, 1, 0, 2, 0xab, 0xcd});
  MpaFrame frame = decode_mpa(wire, MpaKind::kRequest);
  CHECK_FALSE(frame.enhanced);
  CHECK(frame.crc);
  CHECK(frame.private_data == Bytes{0xab, 0xcd});
}

TEST_CASE("MPA frames cut, stretched or damaged are refused") {
  MpaFrame frame;
  frame.enhanced = true;
  frame.private_data = Bytes(8, 7);
  Bytes good = encode(frame);
  for (size_t size = 0; size < good.size(); ++size) {
    CAPTURE(size);
    CHECK_THROWS_AS(decode_mpa(std::span(good).first(size), MpaKind::kRequest), Error);
  }
  CHECK_THROWS_AS(decode_mpa(join(good, {0}), MpaKind::kRequest), Error);
  CHECK_THROWS_AS(decode_mpa(good, MpaKind::kReply), Error);
  for (size_t at = 0; at < 16; ++at) {
    Bytes bad = good;
    bad[at] ^= 0x20;
    CHECK_THROWS_AS(decode_mpa(bad, MpaKind::kRequest), Error);
  }
  for (int revision = 0; revision < 256; ++revision) {
    Bytes other = good;
    other[17] = static_cast<uint8_t>(revision);
    if (revision == 1 || revision == 2) {
      CHECK_NOTHROW(decode_mpa(other, MpaKind::kRequest));
    } else {
      CHECK_THROWS_AS(decode_mpa(other, MpaKind::kRequest), Error);
    }
  }
}

TEST_CASE("MPA private data is bounded by 512 bytes, the depths included") {
  MpaFrame frame;
  frame.revision = 1;
  frame.private_data = Bytes(512);
  CHECK(decode_mpa(encode(frame), MpaKind::kRequest).private_data.size() == 512);
  frame.private_data.resize(513);
  CHECK_THROWS_AS(encode(frame), Error);
  frame.revision = 2;
  frame.enhanced = true;
  CHECK(max_private_data(frame) == 508);
  frame.private_data.resize(508);
  CHECK(encode(frame).size() == 532);
  frame.private_data.resize(509);
  CHECK_THROWS_AS(encode(frame), Error);
  Bytes wire = join(text("MPA ID Req Frame"), {0, 2, 2, 1});
  wire.resize(20 + 513);
  CHECK_THROWS_AS(decode_mpa(wire, MpaKind::kRequest), Error);
  Bytes header = join(text("MPA ID Req Frame"), {0x10, 2, 0, 3, 0, 0, 0});
  CHECK_THROWS_AS(decode_mpa(header, MpaKind::kRequest), Error);
}

TEST_CASE("a SEND segment starts as QEMU's does") {
  DdpHeader header;
  header.last = true;
  header.opcode = static_cast<uint8_t>(RdmapOpcode::kSend);
  header.msn = 1;
  uint8_t bytes[kMaxHeaderSize];
  CHECK(encode_fpdu_header(header, 16, bytes) == 20);
  CHECK(Bytes(bytes, bytes + 20) == Bytes{0, 34, 0x41, 0x43, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0});
}

TEST_CASE("a WRITE segment carries STag and offset") {
  DdpHeader header;
  header.tagged = true;
  header.opcode = static_cast<uint8_t>(RdmapOpcode::kWrite);
  header.stag = 0x01020304;
  header.target_offset = 0x1122334455667788;
  uint8_t bytes[kMaxHeaderSize];
  CHECK(encode_fpdu_header(header, 61440, bytes) == 16);
  CHECK(Bytes(bytes, bytes + 16) ==
        Bytes{0xf0, 0x0e, 0x81, 0x40, 1, 2, 3, 4, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88});
}

TEST_CASE("any DDP header decodes and encodes back") {
  std::mt19937 random(7);
  for (int round = 0; round < 20'000; ++round) {
    uint8_t bytes[kUntaggedSize];
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
    bytes[0] &= 0xc3;  // the reserved bits are not kept
    bytes[1] &= 0xcf;
    DdpHeader header = decode_ddp(bytes);
    uint8_t again[kMaxHeaderSize];
    size_t size = encode_fpdu_header(header, 0, again) - kFpduLengthSize;
    CHECK(size == ddp_header_size(header.tagged));
    CHECK(std::memcmp(bytes, again + kFpduLengthSize, size) == 0);
  }
}

TEST_CASE("pad brings every FPDU to a multiple of 4") {
  for (size_t ulpdu = 0; ulpdu <= kMaxUlpdu; ++ulpdu) {
    bool good = fpdu_pad(ulpdu) < 4 && (kFpduLengthSize + ulpdu + fpdu_pad(ulpdu)) % 4 == 0 &&
                fpdu_size(ulpdu) % 4 == 0;
    if (!good) FAIL(ulpdu);
  }
}

TEST_CASE("the CRC field is sent least significant byte first") {
  uint8_t bytes[4];
  store_crc(bytes, 0x8a9136aa);
  CHECK(Bytes(bytes, bytes + 4) == Bytes{0xaa, 0x36, 0x91, 0x8a});
  CHECK(load_crc(bytes) == 0x8a9136aa);
}

TEST_CASE("a READ request has its five fields") {
  ReadRequest request{0x01020304, 0x1112131415161718, 0x21222324, 0x31323334, 0x4142434445464748};
  Bytes bytes(kReadRequestSize);
  encode_read_request(request, bytes.data());
  CHECK(bytes == Bytes{1,    2,    3,    4,    0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x21, 0x22,
                       0x23, 0x24, 0x31, 0x32, 0x33, 0x34, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48});
  ReadRequest back = decode_read_request(std::span(bytes).first<kReadRequestSize>());
  CHECK(back.sink_offset == request.sink_offset);
  CHECK(back.length == request.length);
  CHECK(back.source_stag == request.source_stag);
  CHECK(back.source_offset == request.source_offset);
}

TEST_CASE("a TERMINATE names layer, type and code and repeats the headers at fault") {
  CHECK(encode_terminate(TerminateCode::kMpaCrc, {}, 0, {}) == Bytes{0x20, 0x02, 0, 0});
  Bytes header(kTaggedSize, 0xab);
  Bytes with_header = join({0x11, 0x01, 0xc0, 0x00, 0x12, 0x34}, header);
  CHECK(encode_terminate(TerminateCode::kTaggedBaseOrBounds, header, 0x1234, {}) == with_header);
  Bytes read(kReadRequestSize, 0xcd);
  Bytes untagged(kUntaggedSize, 0xab);
  Bytes with_read = join(join({0x01, 0x00, 0xe0, 0x00, 0x00, 0x2e}, untagged), read);
  CHECK(encode_terminate(TerminateCode::kRdmapInvalidStag, untagged, 46, read) == with_read);
}

TEST_CASE("a received TERMINATE is put into words, known or not") {
  Bytes known{0x12, 0x05, 0, 0};
  CHECK(decode_terminate(known) == TerminateCode::kUntaggedTooLong);
  CHECK(describe(decode_terminate(known)) ==
        "DDP layer, untagged buffer error: message longer than the RECV (layer 1, type 2, code 5)");
  for (uint32_t value = 0; value <= 0xffff; ++value)
    CHECK_FALSE(describe(static_cast<TerminateCode>(value)).empty());
  CHECK(describe(static_cast<TerminateCode>(0xf3ee)) == "unknown error (layer 15, type 3, code 238)");
  CHECK(decode_terminate(Bytes{}) == TerminateCode::kRdmapUnspecified);
  CHECK(decode_terminate(Bytes{0x12}) == TerminateCode::kRdmapUnspecified);
}
