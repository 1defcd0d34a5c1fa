// Protected records by themselves: bytes in, bytes out.
#include <doctest/doctest.h>

#include <random>

#include "iwarp/terminate.h"
#include "support/hex.h"
#include "support/protection.h"

using namespace rdma_migrate;
using namespace rdma_migrate::test;
using fabric::Bytes;
using iwarp::RecordReader;
using iwarp::RecordWriter;

namespace {

const std::string kPeer = "a peer";

struct Ends {
  explicit Ends(uint64_t per_key = fabric::Protection::kRecordsPerKey)
      : writer(active_protection(per_key)), reader(passive_protection(per_key), kPeer) {}
  RecordWriter writer;
  RecordReader reader;
};

// Gives the bytes in pieces of that size, and takes what opens.
Bytes read(RecordReader& reader, const Bytes& stream, size_t piece) {
  Bytes opened;
  Bytes out(iwarp::kMaxRecordInner);
  for (size_t at = 0; at < stream.size();) {
    const size_t size = std::min({piece, stream.size() - at, reader.stream().free()});
    std::copy_n(stream.begin() + static_cast<ptrdiff_t>(at), size, reader.stream().room());
    reader.stream().filled(size);
    at += size;
    while (const size_t got = reader.open(out.data()))
      opened.insert(opened.end(), out.begin(), out.begin() + static_cast<ptrdiff_t>(got));
  }
  return opened;
}

std::string code_of(RecordReader& reader, const Bytes& stream) {
  try {
    read(reader, stream, stream.size());
  } catch (const iwarp::WireFault& fault) {
    return fault.error().code();
  }
  return "";
}

Bytes joined(std::initializer_list<Bytes> parts) {
  Bytes all;
  for (const Bytes& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

Bytes bytes_of(const std::string& text) { return Bytes(text.begin(), text.end()); }

}  // namespace

TEST_CASE("records are those of RFC 8446") {
  // Made with Python's hmac and cryptography of the secret 00 01 02 ..., two records a key.
  REQUIRE(has_libcrypto);
  Bytes secret(48);
  for (size_t at = 0; at < secret.size(); ++at) secret[at] = static_cast<uint8_t>(at);
  fabric::Protection protection = active_protection(2);
  protection.send = crypto::Secret(std::span<const uint8_t, 48>(secret.data(), 48));
  RecordWriter writer(protection);
  CHECK(seal(writer, bytes_of("guest")) == unhex("1703030016"
                                                 "2f421a4f611a8def82c8735c7d4fc30d15f89de95ae6"));
  CHECK(seal(writer, bytes_of("memory")) == unhex("1703030017"
                                                  "f074149fb6371a53dfd505a50d02421b6adf0b141d4178"));
  CHECK(seal_end(writer) == unhex("1703030013"
                                  "2d95b6103766629827919eb2d9592c9e32e780"));
}

TEST_CASE("contents of every size arrive in order, in pieces of any size") {
  for (const size_t size :
       {size_t{1}, size_t{2}, size_t{15}, size_t{16}, size_t{17}, size_t{4096}, iwarp::kMaxRecordContent - 1,
        iwarp::kMaxRecordContent, iwarp::kMaxRecordContent + 1, size_t{100'000}}) {
    for (const size_t piece : {size_t{1}, size_t{5}, size_t{1447}, size_t{16'406}, size_t{200'000}}) {
      CAPTURE(size);
      CAPTURE(piece);
      Ends ends;
      const Bytes first = pattern(size, 1);
      const Bytes second = pattern(33, 2);
      const Bytes stream =
          joined({seal_all(ends.writer, first), seal_all(ends.writer, second), seal_end(ends.writer)});
      CHECK(read(ends.reader, stream, piece) == joined({first, second}));
      CHECK(ends.reader.ended());
    }
  }
}

TEST_CASE("both ends change their keys at the same record") {
  const Bytes bytes = pattern(3000, 4);
  for (const uint64_t per_key : {1, 2, 3, 1000}) {
    CAPTURE(per_key);
    Ends ends(per_key);
    CHECK(read(ends.reader, seal_all(ends.writer, bytes, 100), 700) == bytes);
  }
  SUBCASE("an end that does not is refused there") {
    RecordWriter writer(active_protection(4));
    RecordReader reader(passive_protection(5), kPeer);
    CHECK(read(reader, seal_all(writer, Bytes(4, 1), 1), 100) == Bytes(4, 1));
    CHECK(code_of(reader, seal(writer, Bytes(1, 1))) == "INTEGRITY_ERROR");
  }
  SUBCASE("the same content under two keys looks different") {
    RecordWriter writer(active_protection(1));
    CHECK(seal(writer, Bytes(9, 1)) != seal(writer, Bytes(9, 1)));
  }
}

TEST_CASE("a number of records for a key that would not be safe is refused") {
  for (const uint64_t per_key : {uint64_t{0}, fabric::Protection::kRecordsPerKey + 1, UINT64_MAX}) {
    CAPTURE(per_key);
    CHECK_THROWS_AS(RecordWriter writer(active_protection(per_key)), Error);
    CHECK_THROWS_AS(RecordReader reader(active_protection(per_key), kPeer), Error);
  }
}

TEST_CASE("a bit that was flipped anywhere is found, and what came before it has been given") {
  const Bytes before = pattern(40, 1);
  const Bytes after = pattern(60, 2);
  const size_t head = before.size() + 22;
  for (size_t bit = 0; bit < 8 * (after.size() + 22); ++bit) {
    CAPTURE(bit);
    Ends ends;
    const Bytes first = seal(ends.writer, before);
    REQUIRE(first.size() == head);
    Bytes second = seal(ends.writer, after);
    second[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    CHECK(read(ends.reader, first, 7) == before);
    // A length that has grown makes the record wait for more.
    const bool waits = bit >= 24 && bit < 40 && (second[3] << 8 | second[4]) > 77;
    CHECK(code_of(ends.reader, joined({second, Bytes(waits ? 20'000 : 0)})) == "INTEGRITY_ERROR");
  }
}

TEST_CASE("records that are replayed, left out, reordered or reflected are refused") {
  Ends ends;
  const Bytes first = seal(ends.writer, pattern(10, 1));
  const Bytes second = seal(ends.writer, pattern(10, 2));
  const Bytes third = seal(ends.writer, pattern(10, 3));
  SUBCASE("replayed") { CHECK(code_of(ends.reader, joined({first, first})) == "INTEGRITY_ERROR"); }
  SUBCASE("left out") { CHECK(code_of(ends.reader, joined({first, third})) == "INTEGRITY_ERROR"); }
  SUBCASE("reordered") { CHECK(code_of(ends.reader, joined({second, first})) == "INTEGRITY_ERROR"); }
  SUBCASE("spliced") {
    Bytes spliced = first;
    std::copy(second.end() - 16, second.end(), spliced.end() - 16);
    CHECK(code_of(ends.reader, spliced) == "INTEGRITY_ERROR");
  }
  SUBCASE("reflected") {
    RecordReader own(active_protection(), kPeer);
    CHECK(code_of(own, first) == "INTEGRITY_ERROR");
  }
  SUBCASE("the good ones after a bad one do not help") {
    CHECK(code_of(ends.reader, second) == "INTEGRITY_ERROR");
    CHECK(code_of(ends.reader, first) == "INTEGRITY_ERROR");
  }
}

TEST_CASE("a head that cannot be a record's is refused before anything more has come") {
  const char* const heads[] = {
      "1603030020",  // a handshake's
      "1503030020",  // an alert in the clear
      "1703010020",  // TLS 1.0
      "1703040020",  // a version that was never in a record
      "1703030000",  // nothing
      "1703030010",  // a tag alone
      "1703030011",  // no content
      "1703034012",  // one byte too long
      "170303ffff",
      "002c414300",  // an FPDU in the clear
      "474554202f",  // "GET /"
  };
  for (const char* head : heads) {
    CAPTURE(head);
    Ends ends;
    CHECK(code_of(ends.reader, unhex(head)) == "INTEGRITY_ERROR");
  }
  Ends ends;
  CHECK(code_of(ends.reader, unhex("1703034011")) == "");
  CHECK(code_of(ends.reader, Bytes(0x4011)) == "INTEGRITY_ERROR");
}

TEST_CASE("contents that nobody seals here are refused") {
  const auto record = [](const Bytes& content, iwarp::RecordType type) {
    RecordWriter writer(active_protection());
    Bytes bytes(iwarp::kMaxRecordSize);
    std::copy(content.begin(), content.end(), bytes.begin() + iwarp::kRecordHeaderSize);
    bytes.resize(writer.seal(bytes.data(), content.size(), type));
    return bytes;
  };
  const auto code = [](const Bytes& stream) {
    Ends ends;
    return code_of(ends.reader, stream);
  };
  CHECK(code(record({1, 0}, iwarp::RecordType::kAlert)) == "");
  CHECK(code(record({2, 20}, iwarp::RecordType::kAlert)) == "INTEGRITY_ERROR");
  CHECK(code(record({1, 0, 0}, iwarp::RecordType::kAlert)) == "INTEGRITY_ERROR");
  CHECK(code(record({1}, iwarp::RecordType::kAlert)) == "INTEGRITY_ERROR");
  CHECK(code(record({20, 0, 0, 0}, static_cast<iwarp::RecordType>(22))) == "INTEGRITY_ERROR");
  CHECK(code(record({5}, static_cast<iwarp::RecordType>(0))) == "INTEGRITY_ERROR");  // padding
  SUBCASE("anything after close_notify") {
    Ends ends;
    const Bytes end = seal_end(ends.writer);
    CHECK(code_of(ends.reader, joined({end, seal(ends.writer, Bytes(1))})) == "INTEGRITY_ERROR");
    Ends later;
    CHECK(code_of(later.reader, end) == "");
    CHECK(code_of(later.reader, Bytes(1, 0x17)) == "INTEGRITY_ERROR");
  }
}

TEST_CASE("streams that are damaged at random never give a byte that was not sealed") {
  const uint64_t seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  for (int round = 0; round < 300; ++round) {
    Ends ends(1 + random() % 4);
    const Bytes bytes = pattern(1 + random() % 40'000, random());
    Bytes stream = seal_all(ends.writer, bytes, 1 + random() % iwarp::kMaxRecordContent);
    const size_t at = random() % stream.size();
    switch (random() % 3) {
      case 0:
        stream[at] ^= static_cast<uint8_t>(1 + random() % 255);
        break;
      case 1:
        stream.insert(stream.begin() + static_cast<ptrdiff_t>(at), static_cast<uint8_t>(random()));
        break;
      default:
        stream.erase(stream.begin() + static_cast<ptrdiff_t>(at));
    }
    Bytes opened;
    Bytes out(iwarp::kMaxRecordInner);
    try {
      for (size_t from = 0; from < stream.size();) {
        const size_t size =
            std::min({size_t{1 + random() % 9000}, stream.size() - from, ends.reader.stream().free()});
        std::copy_n(stream.begin() + static_cast<ptrdiff_t>(from), size, ends.reader.stream().room());
        ends.reader.stream().filled(size);
        from += size;
        while (const size_t got = ends.reader.open(out.data()))
          opened.insert(opened.end(), out.begin(), out.begin() + static_cast<ptrdiff_t>(got));
      }
    } catch (const iwarp::WireFault&) {
    }
    // A byte that is inserted or missing at the very end only leaves a record unfinished.
    REQUIRE(opened.size() <= bytes.size());
    CHECK(std::equal(opened.begin(), opened.end(), bytes.begin()));
  }
}
