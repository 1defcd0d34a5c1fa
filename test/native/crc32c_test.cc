#include "iwarp/crc32c.h"

#include <doctest/doctest.h>

#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

using rdma_migrate::iwarp::crc32c;
using rdma_migrate::iwarp::crc32c_hardware;
using rdma_migrate::iwarp::crc32c_portable;

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
    }
  }
}

TEST_CASE("a sum goes on where it was left") {
  std::vector<uint8_t> bytes = random_bytes(20'000, 3);
  uint32_t whole = crc32c(bytes);
  for (size_t split : {0, 1, 7, 8, 767, 768, 12288, 19'999, 20'000}) {
    uint32_t first = crc32c(std::span(bytes).first(split));
    CHECK(crc32c(std::span(bytes).subspan(split), first) == whole);
  }
}
