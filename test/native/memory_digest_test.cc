#include <doctest/doctest.h>

#include <bit>
#include <set>

#include "memory/digest.h"
#include "memory_support.h"

using namespace memory_test;
using rdma_migrate::memory::CancelFlag;
using rdma_migrate::memory::digest;
using rdma_migrate::memory::Digest;
using rdma_migrate::memory::to_hex;

TEST_CASE("holes and written zeros are the same, in every kind of mapping") {
  const auto sparse = Mapping::memfd("sparse", 4 * kMiB);
  const auto zeros = Mapping::memfd("zeros", 4 * kMiB);
  Anonymous memory(4 * kMiB);
  const auto caller = Mapping::caller(memory.address(), 4 * kMiB);
  std::memset(zeros->data(), 0, 4 * kMiB);
  CHECK(digest(*sparse) == digest(*zeros));
  for (const auto& mapping : {sparse, zeros, caller}) std::memset(mapping->data() + 3 * kMiB, 5, 3 * kPage);
  CHECK(digest(*sparse) == digest(*zeros));
  CHECK(digest(*sparse) == digest(*caller));
}

TEST_CASE("holes are not read") {
  const auto mapping = Mapping::memfd("ram", 4096 * kMiB);
  mapping->data()[kMiB] = 1;
  digest(*mapping);
  CHECK(allocated_bytes(*mapping) == kPage);
}

TEST_CASE("every bit of a page, its place and the length count") {
  const auto mapping = Mapping::memfd("ram", 8 * kPage);
  std::set<Digest> seen = {digest(*mapping)};
  uint64_t made = 1;
  for (uint64_t bit = 0; bit < 2 * kPage * 8; ++bit, ++made) {
    const auto mask = static_cast<uint8_t>(1 << bit % 8);
    mapping->data()[bit / 8] ^= mask;
    seen.insert(digest(*mapping));
    mapping->data()[bit / 8] ^= mask;
  }
  for (uint64_t pages = 1; pages < 8; ++pages, ++made)
    seen.insert(digest(*Mapping::memfd("ram", pages * kPage)));
  CHECK(seen.size() == made);
}

TEST_CASE("swapped pages, swapped words and a repeated page are seen") {
  std::mt19937_64 random(8);
  const auto mapping = Mapping::memfd("ram", 16 * kPage);
  fill_random(mapping->data(), 16 * kPage, random);
  std::set<Digest> seen = {digest(*mapping)};
  const auto swap = [&](uint64_t a, uint64_t b, uint64_t length) {
    std::swap_ranges(mapping->data() + a, mapping->data() + a + length, mapping->data() + b);
    seen.insert(digest(*mapping));
    std::swap_ranges(mapping->data() + a, mapping->data() + a + length, mapping->data() + b);
  };
  swap(0, kPage, kPage);
  swap(3 * kPage, 9 * kPage, kPage);
  for (uint64_t word = 0; word < 512; ++word) {
    for (const uint64_t distance : {8, 16, 32, 64, 128, 1024}) {
      if (word * 8 + distance + 8 <= kPage) swap(word * 8, word * 8 + distance, 8);
    }
  }
  const uint64_t swaps = seen.size();
  CHECK(swaps > 2900);
  std::memcpy(mapping->data() + kPage, mapping->data(), kPage);
  seen.insert(digest(*mapping));
  CHECK(seen.size() == swaps + 1);
}

TEST_CASE("one bit changes about half of the digest, in each of its words") {
  std::mt19937_64 random(9);
  const auto mapping = Mapping::memfd("ram", 4 * kPage);
  fill_random(mapping->data(), 4 * kPage, random);
  const Digest before = digest(*mapping);
  uint64_t changed = 0;
  constexpr int kRounds = 500;
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t bit = random() % (4 * kPage * 8);
    const auto mask = static_cast<uint8_t>(1 << bit % 8);
    mapping->data()[bit / 8] ^= mask;
    const Digest after = digest(*mapping);
    mapping->data()[bit / 8] ^= mask;
    for (size_t i = 0; i < 4; ++i) {
      REQUIRE(before[i] != after[i]);
      changed += static_cast<uint64_t>(std::popcount(before[i] ^ after[i]));
    }
  }
  CHECK(changed > kRounds * 120);
  CHECK(changed < kRounds * 136);
}

TEST_CASE("is the same on every machine") {
  const auto mapping = Mapping::memfd("ram", 4 * kPage);
  for (uint64_t i = 0; i < kPage; ++i) mapping->data()[kPage + i] = static_cast<uint8_t>(i * 7 + 1);
  CHECK(to_hex(digest(*mapping)) == "89be1f8bd0fd67bd438d8993eb93759b66a4ee2ea98adcd36f2602ddc8b7fd5a");
}

TEST_CASE("can be cancelled") {
  const auto mapping = Mapping::memfd("ram", kMiB);
  mapping->data()[0] = 1;
  const CancelFlag cancel(true);
  CHECK(code_of([&] { digest(*mapping, &cancel); }) == "CANCELLED");
}

TEST_CASE("of chunks tells which of them differ, whatever holes there are, and the last one may be shorter") {
  constexpr uint64_t kChunk = 2 * kPage;
  const auto left = Mapping::memfd("ram", 7 * kPage);
  const auto right = Mapping::memfd("ram", 7 * kPage);
  for (uint64_t page : {0, 3, 6}) left->data()[page * kPage + 5] = right->data()[page * kPage + 5] = 1;
  right->data()[2 * kPage] = 0;  // touched, and zero: as a hole
  const rdma_migrate::memory::Range whole{0, 7 * kPage};
  const auto before = digest_chunks(*left, whole, kChunk);
  CHECK(before.size() == 4);
  CHECK(before == digest_chunks(*right, whole, kChunk));
  right->data()[6 * kPage] ^= 1;
  right->data()[kPage] ^= 1;
  const auto after = digest_chunks(*right, whole, kChunk);
  for (size_t at = 0; at < 4; ++at) CHECK((before[at] == after[at]) == (at == 1 || at == 2));
  const auto part = digest_chunks(*left, {kChunk, 3 * kPage}, kChunk);
  CHECK(part.size() == 2);
  CHECK(part[0] == before[1]);
  CHECK(part[1] == before[2]);  // zeros at the end count for nothing: who compares asks for the same ranges
  // The same bytes in another place are another chunk.
  CHECK(before[1] != before[3]);
}
