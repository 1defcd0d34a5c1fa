#include <doctest/doctest.h>

#include <atomic>
#include <thread>

#include "memory/populate.h"
#include "memory/store.h"
#include "memory/zero_range.h"
#include "memory_support.h"

using namespace memory_test;
using namespace rdma_migrate::memory;

namespace {

using Populate = void (*)(const Mapping&, uint64_t, uint64_t);
const Populate kWays[] = {
    [](const Mapping& mapping, uint64_t offset, uint64_t length) { populate(mapping, offset, length); },
    [](const Mapping& mapping, uint64_t offset, uint64_t length) {
      internal::populate_by_touch(mapping, {offset, length});
    },
};

}  // namespace

TEST_CASE("populates what was asked for, nothing else, and changes no byte") {
  for (const Populate way : kWays) {
    const auto mapping = Mapping::memfd("ram", 32 * kMiB);
    mapping->data()[9 * kMiB + 5] = 77;
    way(*mapping, 8 * kMiB, 4 * kMiB);
    CHECK(allocated_bytes(*mapping) == 4 * kMiB);
    CHECK(mapping->data()[9 * kMiB + 5] == 77);
    CHECK(mapping->data()[8 * kMiB] == 0);
  }
}

TEST_CASE("populates private and shared memory of the caller") {
  Anonymous memory(64 * kPage);
  populate(*Mapping::caller(memory.address(), 64 * kPage), 8 * kPage, 8 * kPage);
  CHECK(memory.resident_pages() == 8);
  internal::populate_by_touch(*Mapping::caller(memory.address(), 64 * kPage), {32 * kPage, 4 * kPage});
  CHECK(memory.resident_pages() == 12);
}

TEST_CASE("does not touch a caller's file mapping where a fault could be a signal") {
  const auto file = Mapping::memfd("ram", 16 * kPage);
  internal::populate_by_touch(*Mapping::caller(file->address(), 16 * kPage), {0, 16 * kPage});
  CHECK(allocated_bytes(*file) == 0);
}

TEST_CASE("touching pages loses no write of another thread") {
  constexpr uint64_t kPages = 4;  // few, so that both threads are often at the same one
  const auto mapping = Mapping::memfd("ram", kPages * kPage);
  std::atomic<int> rounds{0}, lost{0};
  std::thread writer([&] {
    for (uint8_t value = 1; rounds < 100'000; ++value, ++rounds) {
      for (uint64_t page = 0; page < kPages; ++page) {
        std::atomic_ref<uint8_t> byte(mapping->data()[page * kPage]);
        byte.store(value, std::memory_order_relaxed);
        for (int i = 0; i < 20; ++i) lost += byte.load(std::memory_order_relaxed) != value;
      }
    }
  });
  while (rounds < 100'000) internal::populate_by_touch(*mapping, {0, kPages * kPage});
  writer.join();
  CHECK(lost == 0);
}

TEST_CASE("a cancelled populate ends with CANCELLED") {
  const auto mapping = Mapping::memfd("ram", 64 * kMiB);
  const CancelFlag cancel(true);
  CHECK(code_of([&] { populate(*mapping, 0, 64 * kMiB, &cancel); }) == "CANCELLED");
  CHECK(code_of([&] { zero_range(*mapping, 0, 64 * kMiB, false, &cancel); }) == "CANCELLED");
  CHECK(allocated_bytes(*mapping) == 0);
}

TEST_CASE("a mapping for reading cannot be populated or zeroed") {
  TemporaryFolder folder;
  Mapping::file(folder.file("ram"), kMiB, FileMode::kCreate);
  const auto mapping = Mapping::file(folder.file("ram"), kMiB, FileMode::kRead);
  CHECK(code_of([&] { populate(*mapping, 0, kMiB); }) == "INVALID_ARGUMENT");
  CHECK(code_of([&] { zero_range(*mapping, 0, kMiB, true); }) == "INVALID_ARGUMENT");
}

TEST_CASE("a full disk is DISK_FULL with the numbers, not a signal") {
  TemporaryFolder folder;
  if (!folder.mount_tmpfs(4 * kMiB)) {
    MESSAGE("skipped: this user may not mount a small tmpfs (", std::string(std::strerror(errno)), ")");
    return;
  }
  for (const Populate way : kWays) {
    const auto mapping = Mapping::file(folder.file("ram"), 64 * kMiB, FileMode::kCreate);
    CHECK(code_of([&] { way(*mapping, 0, 64 * kMiB); }) == "DISK_FULL");
    const std::string message = message_of([&] { way(*mapping, 0, 64 * kMiB); });
    CAPTURE(message);
    CHECK(message.find(folder.file("ram")) != std::string::npos);
    CHECK(message.find("67108864 bytes (64.0 MiB) needed") != std::string::npos);
    CHECK(message.find("free on its file system") != std::string::npos);

    Store store(*mapping);
    static const uint8_t page[kPage] = {1};
    CHECK(code_of([&] {
            for (uint64_t at = 0; at < 64 * kMiB; at += kPage) store.data(at, page);
            store.flush();
          }) == "DISK_FULL");
    unlink(folder.file("ram").c_str());
  }
}

TEST_CASE("a file cut short while mapped is IO_ERROR, not a signal") {
  TemporaryFolder folder;
  const auto mapping = Mapping::file(folder.file("ram"), 8 * kMiB, FileMode::kCreate);
  REQUIRE(truncate(folder.file("ram").c_str(), kMiB) == 0);
  CHECK(code_of([&] { populate(*mapping, 0, 8 * kMiB); }) == "IO_ERROR");
  CHECK(code_of([&] { zero_range(*mapping, 0, 8 * kMiB, false); }) == "IO_ERROR");
}

TEST_CASE("keeps most of a file system free when it is told to") {
  TemporaryFolder folder;
  if (!folder.mount_tmpfs(64 * kMiB)) {
    MESSAGE("skipped: this user may not mount a small tmpfs (", std::string(std::strerror(errno)), ")");
    return;
  }
  const auto mapping = Mapping::file(folder.file("ram"), 60 * kMiB, FileMode::kCreate);
  populate(*mapping, 0, 60 * kMiB, nullptr, FreeSpace::kKeep);
  CHECK(allocated_bytes(*mapping) == 16 * kMiB);
  populate(*mapping, 0, 60 * kMiB);
  CHECK(allocated_bytes(*mapping) == 60 * kMiB);
}
