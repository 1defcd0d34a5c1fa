#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include "memory/zero_range.h"
#include "memory_support.h"

using namespace memory_test;
using rdma_migrate::memory::zero_range;

namespace {

bool all_zero(const uint8_t* data, uint64_t length) {
  return std::all_of(data, data + length, [](uint8_t byte) { return byte == 0; });
}

}  // namespace

TEST_CASE("zeroes exactly the range, whatever its alignment, with and without punching") {
  std::mt19937_64 random(2);
  TemporaryFolder folder;
  Anonymous memory(64 * kPage);
  const std::vector<std::shared_ptr<Mapping>> mappings = {
      Mapping::memfd("ram", 64 * kPage), Mapping::file(folder.file("ram"), 64 * kPage, FileMode::kCreate),
      Mapping::caller(memory.address(), 64 * kPage)};
  for (const auto& mapping : mappings) {
    for (int round = 0; round < 60; ++round) {
      fill_random(mapping->data(), mapping->length(), random);
      std::vector<uint8_t> expected(mapping->data(), mapping->data() + mapping->length());
      const uint64_t unit = round % 2 == 0 ? 1 : kPage;
      const uint64_t offset = random() % mapping->length() / unit * unit;
      const uint64_t length = random() % (mapping->length() - offset + 1) / unit * unit;
      std::fill_n(expected.begin() + static_cast<std::ptrdiff_t>(offset), length, 0);
      zero_range(*mapping, offset, length, round % 3 == 0);
      REQUIRE(std::memcmp(mapping->data(), expected.data(), expected.size()) == 0);
    }
  }
}

TEST_CASE("punching gives the memory back; not punching keeps the pages") {
  const auto mapping = Mapping::memfd("ram", 4 * kMiB);
  std::memset(mapping->data(), 1, 4 * kMiB);
  zero_range(*mapping, 0, 2 * kMiB, false);
  CHECK(allocated_bytes(*mapping) == 4 * kMiB);
  zero_range(*mapping, 0, 2 * kMiB, true);
  CHECK(allocated_bytes(*mapping) == 2 * kMiB);
  CHECK(all_zero(mapping->data(), 2 * kMiB));
}

TEST_CASE("zeroing what is zero uses no memory") {
  const auto mapping = Mapping::memfd("ram", 256 * kMiB);
  zero_range(*mapping, 0, 256 * kMiB, false);
  zero_range(*mapping, 123, 200 * kMiB, false);
  CHECK(allocated_bytes(*mapping) == 0);

  Anonymous memory(4096 * kPage);
  zero_range(*Mapping::caller(memory.address(), memory.length()), 0, memory.length(), true);
  CHECK(memory.resident_pages() == 0);

  TemporaryFolder folder;
  const auto file = Mapping::file(folder.file("ram"), 64 * kMiB, FileMode::kCreate);
  zero_range(*file, 0, 64 * kMiB, false);
  CHECK(allocated_bytes(*file) == 0);
}

TEST_CASE("refuses a range outside the mapping") {
  const auto mapping = Mapping::memfd("ram", kMiB);
  CHECK(code_of([&] { zero_range(*mapping, kMiB, 1, true); }) == "INVALID_ARGUMENT");
  CHECK(code_of([&] { zero_range(*mapping, kPage, UINT64_MAX, true); }) == "INVALID_ARGUMENT");
}
