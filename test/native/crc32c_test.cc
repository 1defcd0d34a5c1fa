#include "iwarp/crc32c.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "support/guest.h"

using rdma_migrate::iwarp::crc32c;
using rdma_migrate::iwarp::crc32c_copy_in_pieces;
using rdma_migrate::iwarp::crc32c_fold;
using rdma_migrate::iwarp::crc32c_fold_copy;
using rdma_migrate::iwarp::crc32c_hardware;
using rdma_migrate::iwarp::crc32c_portable;
using rdma_migrate::test::Guest;

namespace {

std::vector<uint8_t> random_bytes(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<uint8_t> bytes(size);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

// Bit by bit, from the definition.
uint32_t slow(const uint8_t* data, size_t size) {
  uint32_t crc = ~0u;
  for (size_t at = 0; at < size; ++at) {
    crc ^= data[at];
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0x82f63b78u : 0);
  }
  return ~crc;
}

void check_vectors(uint32_t (*function)(const uint8_t*, size_t, uint32_t)) {
  auto of = [&](const std::vector<uint8_t>& bytes) { return function(bytes.data(), bytes.size(), 0); };
  std::vector<uint8_t> up(32);
  std::iota(up.begin(), up.end(), uint8_t{0});
  CHECK(of(std::vector<uint8_t>(32, 0x00)) == 0x8a9136aa);
  CHECK(of(std::vector<uint8_t>(32, 0xff)) == 0x62a8ab43);
  CHECK(of(up) == 0x46dd794e);
  CHECK(of(std::vector<uint8_t>(up.rbegin(), up.rend())) == 0x113fdb5c);
  std::string digits = "123456789";
  CHECK(of(std::vector<uint8_t>(digits.begin(), digits.end())) == 0xe3069283);
  CHECK(of({}) == 0);
}

}  // namespace

TEST_CASE("the vectors of RFC 3720") {
  check_vectors(crc32c_portable);
  if (crc32c_hardware() == nullptr) {
    MESSAGE("this CPU has no CRC32C instruction; only the portable way is tested");
  } else {
    check_vectors(crc32c_hardware());
  }
  if (crc32c_fold() == nullptr) {
    MESSAGE("this CPU has no VPCLMULQDQ with AVX-512; folding is not tested");
  } else {
    check_vectors(crc32c_fold());
  }
}

TEST_CASE("the SCSI Read command of RFC 3720") {
  std::vector<uint8_t> pdu(48, 0);
  pdu[0] = 0x01;
  pdu[1] = 0xc0;
  pdu[16] = 0x14;
  pdu[22] = 0x04;
  pdu[27] = 0x14;
  pdu[31] = 0x18;
  pdu[32] = 0x28;
  pdu[40] = 0x02;
  CHECK(crc32c(pdu) == 0xd9963a56);
}

TEST_CASE("all ways agree with the definition, at any size and alignment") {
  std::vector<uint8_t> bytes = random_bytes(70'000, 1);
  std::mt19937 random(2);
  std::vector<size_t> sizes;
  for (size_t size = 0; size < 100; ++size) sizes.push_back(size);
  for (size_t edge : {767, 768, 769, 12287, 12288, 12289, 61440, 65521}) sizes.push_back(edge);
  for (int count = 0; count < 60; ++count) sizes.push_back(random() % 60'000);
  for (size_t size : sizes) {
    CAPTURE(size);
    for (size_t start = 0; start < 9; ++start) {
      uint32_t expected = slow(bytes.data() + start, size);
      CHECK(crc32c_portable(bytes.data() + start, size, 0) == expected);
      if (crc32c_hardware() != nullptr) CHECK(crc32c_hardware()(bytes.data() + start, size, 0) == expected);
      if (crc32c_fold() != nullptr) CHECK(crc32c_fold()(bytes.data() + start, size, 0) == expected);
    }
  }
}

TEST_CASE("folding agrees with the table at every size up to some blocks, every alignment and any seed") {
  if (crc32c_fold() == nullptr) return;
  const std::vector<uint8_t> bytes = random_bytes(2'000, 4);
  std::mt19937 random(5);
  size_t wrong = 0;
  for (size_t size = 0; size <= 1'100; ++size) {
    for (size_t start = 0; start < 64; ++start) {
      const uint32_t seed = random();
      const uint8_t* data = bytes.data() + start;
      if (crc32c_fold()(data, size, seed) != crc32c_portable(data, size, seed)) ++wrong;
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("a copy has the bytes, their sum, and nothing beside them") {
  constexpr uint8_t kUntouched = 0xa5;
  const std::vector<uint8_t> bytes = random_bytes(70'000, 6);
  std::mt19937 random(7);
  std::vector<size_t> sizes{0, 1, 8, 63, 255, 256, 257, 511, 512, 12'287, 12'288, 12'289, 61'440, 65'521};
  for (int count = 0; count < 100; ++count) sizes.push_back(random() % 3'000);
  for (const auto way : {crc32c_copy_in_pieces, crc32c_fold_copy()}) {
    if (way == nullptr) continue;
    for (size_t size : sizes) {
      CAPTURE(size);
      const size_t from = random() % 64;
      const size_t to = random() % 64;
      const uint32_t seed = random();
      std::vector<uint8_t> copy(to + size + 64, kUntouched);
      std::vector<uint8_t> expected = copy;
      std::copy_n(bytes.begin() + from, size, expected.begin() + to);
      CHECK(way(copy.data() + to, bytes.data() + from, size, seed) ==
            crc32c_portable(bytes.data() + from, size, seed));
      CHECK(copy == expected);
    }
  }
}

// What a running guest does to its page.
TEST_CASE("the sum is that of the copy, whoever writes the bytes meanwhile") {
  std::vector<uint8_t> live = random_bytes(61'440, 8);
  std::vector<uint8_t> copy(live.size());
  const Guest guest(live);
  size_t wrong = 0;
  for (int round = 0; round < 2'000; ++round) {
    for (const auto way : {crc32c_copy_in_pieces, crc32c_fold_copy()}) {
      if (way == nullptr) continue;
      const uint32_t sum = way(copy.data(), live.data(), live.size(), 0);
      if (sum != crc32c_portable(copy.data(), copy.size(), 0)) ++wrong;
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("a sum goes on where it was left") {
  std::vector<uint8_t> bytes = random_bytes(20'000, 3);
  uint32_t whole = crc32c(bytes);
  for (size_t split : {0, 1, 7, 8, 767, 768, 12288, 19'999, 20'000}) {
    uint32_t first = crc32c(std::span(bytes).first(split));
    CHECK(crc32c(std::span(bytes).subspan(split), first) == whole);
  }
}
