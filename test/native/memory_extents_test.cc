#include <doctest/doctest.h>
#include <fcntl.h>

#include <algorithm>
#include <fstream>
#include <vector>

#include "memory/extents.h"
#include "memory/zero_range.h"
#include "memory_support.h"

using namespace memory_test;
using namespace rdma_migrate::memory;

namespace {

// One entry a page: whether it is data.
std::vector<bool> data_pages(const Mapping& mapping, uint64_t offset, uint64_t length) {
  std::vector<bool> pages;
  ExtentCursor cursor(mapping, offset, length);
  uint64_t at = offset;
  for (Extent extent; cursor.next(&extent); at = extent.range.end()) {
    REQUIRE(extent.range.offset == at);
    REQUIRE(extent.range.length > 0);
    for (uint64_t page = 0; page < extent.range.length / kPage; ++page) pages.push_back(!extent.is_hole);
  }
  REQUIRE(at == offset + length);
  return pages;
}

void check_random_pages(const Mapping& mapping) {
  std::mt19937_64 random(3);
  const uint64_t count = mapping.length() / kPage;
  std::vector<bool> written(count);
  for (int round = 0; round < 40; ++round) {
    const uint64_t first = random() % count;
    const uint64_t pages = random() % std::min<uint64_t>(count - first, 20) + 1;
    for (uint64_t page = first; page < std::min(count, first + pages); ++page) {
      mapping.data()[page * kPage + random() % kPage] = 1;
      written[page] = true;
    }
    const uint64_t from = random() % count;
    const uint64_t length = random() % (count - from + 1);
    const auto found = data_pages(mapping, from * kPage, length * kPage);
    for (uint64_t i = 0; i < length; ++i) {
      if (written[from + i]) REQUIRE(found[i]);
    }
  }
  // With nothing in the way the answer is exact: only pages that were written are data.
  CHECK(data_pages(mapping, 0, mapping.length()) == written);
}

}  // namespace

TEST_CASE("holes of a memfd are the pages that were never written") {
  check_random_pages(*Mapping::memfd("ram", 1000 * kPage));
}

TEST_CASE("holes of private anonymous memory are the pages that were never written") {
  Anonymous memory(1000 * kPage);
  check_random_pages(*Mapping::caller(memory.address(), memory.length()));
}

TEST_CASE("holes of a caller's shared memory are known from its file") {
  const auto file = Mapping::memfd("ram", 1064 * kPage);
  check_random_pages(*Mapping::caller(file->address() + 64 * kPage, 1000 * kPage, file->file().get()));
}

TEST_CASE("no page that was written to a file through the mapping is taken for a hole") {
  TemporaryFolder folder;
  const auto mapping = Mapping::file(folder.file("ram"), 64 * kMiB, FileMode::kCreate);
  std::mt19937_64 random(4);
  std::vector<uint64_t> written;
  for (int i = 0; i < 200; ++i) {
    written.push_back(random() % (64 * kMiB));
    mapping->data()[written.back()] = 1;
    if (i == 100) mapping->sync();
  }
  // Space that is reserved but was never written, between pages that were.
  fallocate(mapping->file().get(), FALLOC_FL_KEEP_SIZE, 0, 32 * kMiB);
  mapping->data()[5 * kMiB] = 1;
  written.push_back(5 * kMiB);
  const auto found = data_pages(*mapping, 0, 64 * kMiB);
  for (const uint64_t offset : written) REQUIRE(found[offset / kPage]);
  // A file system may count reserved space as data; the rest is holes.
  CHECK(std::count(found.begin(), found.end(), false) > 7900);
}

TEST_CASE("looking for holes touches nothing") {
  const auto memfd = Mapping::memfd("ram", 512 * kMiB);
  CHECK(data_pages(*memfd, 0, 512 * kMiB) == std::vector<bool>(512 * kMiB / kPage, false));
  CHECK(allocated_bytes(*memfd) == 0);
  Anonymous memory(512 * kMiB);
  data_pages(*Mapping::caller(memory.address(), memory.length()), 0, memory.length());
  CHECK(memory.resident_pages() == 0);
}

TEST_CASE("absent pages of shared memory and of private file mappings count as data") {
  Anonymous shared(64 * kPage, MAP_SHARED);
  CHECK(data_pages(*Mapping::caller(shared.address(), 64 * kPage), 0, 64 * kPage) ==
        std::vector<bool>(64, true));

  TemporaryFolder folder;
  std::ofstream(folder.file("ram")) << std::string(64 * kPage, 'x');
  const int fd = open(folder.file("ram").c_str(), O_RDONLY);
  void* memory = mmap(nullptr, 64 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  close(fd);
  const auto mapping = Mapping::caller(reinterpret_cast<uint64_t>(memory), 64 * kPage);
  CHECK(data_pages(*mapping, 0, 64 * kPage) == std::vector<bool>(64, true));
  munmap(memory, 64 * kPage);
}

TEST_CASE("a range of several areas is told area by area") {
  Anonymous memory(64 * kPage);
  mmap(memory.data() + 16 * kPage, 8 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED,
       -1, 0);
  memory.data()[40 * kPage] = 1;
  std::vector<bool> expected(64);
  std::fill(expected.begin() + 16, expected.begin() + 24, true);
  expected[40] = true;
  CHECK(data_pages(*Mapping::caller(memory.address(), 64 * kPage), 0, 64 * kPage) == expected);
}

TEST_CASE("a page that is written after it was known as data and punched is found again") {
  const auto mapping = Mapping::memfd("ram", 64 * kPage);
  std::memset(mapping->data(), 1, 32 * kPage);
  data_pages(*mapping, 0, 64 * kPage);
  zero_range(*mapping, 0, 16 * kPage, true);
  mapping->data()[3 * kPage] = 1;
  mapping->data()[50 * kPage] = 1;
  const auto found = data_pages(*mapping, 0, 64 * kPage);
  CHECK(found[3]);
  CHECK_FALSE(found[4]);
  CHECK(found[20]);
  CHECK(found[50]);
}

TEST_CASE("what a truncation cut off is an error and not a hole") {
  TemporaryFolder folder;
  const auto mapping = Mapping::file(folder.file("ram"), 64 * kPage, FileMode::kCreate);
  REQUIRE(truncate(folder.file("ram").c_str(), 8 * kPage) == 0);
  CHECK(code_of([&] { data_pages(*mapping, 0, 64 * kPage); }) == "IO_ERROR");
}

TEST_CASE("holes of huge pages are found without taking pages from the pool") {
  const uint64_t huge = 2 * kMiB;
  std::shared_ptr<Mapping> mapping;
  try {
    mapping = Mapping::memfd("ram", 4 * huge, huge);
  } catch (const Error& error) {
    MESSAGE("skipped: ", std::string(error.what()));
    return;
  }
  CHECK(mapping->page_size() == huge);
  mapping->data()[huge + 12345] = 1;
  std::vector<bool> expected(4 * huge / kPage);
  std::fill_n(expected.begin() + 512, 512, true);
  CHECK(data_pages(*mapping, 0, 4 * huge) == expected);
  CHECK(allocated_bytes(*mapping) == huge);
  CHECK(code_of([&] { Mapping::memfd("ram", huge + kPage, huge); }) == "INVALID_ARGUMENT");
}
