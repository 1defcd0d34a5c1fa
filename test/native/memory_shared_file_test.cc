// Files of mappings, of which a bounded number is open at one time.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
#include <fcntl.h>

#include <atomic>
#include <thread>

#include "memory_support.h"

using namespace memory_test;
using rdma_migrate::memory::SharedFile;

namespace {

uint64_t open_files() {
  uint64_t count = 0;
  for (int fd = 0; fd < 4096; ++fd) count += fcntl(fd, F_GETFD) >= 0;
  return count;
}

// One page each, the first byte of which is the number of the file.
std::vector<std::shared_ptr<Mapping>> many(const TemporaryFolder& folder, size_t count) {
  std::vector<std::shared_ptr<Mapping>> mappings;
  for (size_t i = 0; i < count; ++i) {
    mappings.push_back(Mapping::file(folder.file(std::to_string(i)), kPage, FileMode::kCreate));
    mappings.back()->data()[0] = static_cast<uint8_t>(i);
  }
  return mappings;
}

int first_byte(const Mapping& mapping) {
  uint8_t byte = 0;
  const auto file = mapping.file();
  return pread(file.get(), &byte, 1, 0) == 1 ? byte : -1;
}

}  // namespace

TEST_CASE("a bounded number of files is open, and each is found again when it is used") {
  const uint64_t before = open_files();
  {
    const TemporaryFolder folder;
    const auto mappings = many(folder, 1000);
    CHECK(open_files() <= before + SharedFile::kMostIdle + 1);
    for (size_t i = 0; i < mappings.size(); ++i) CHECK(first_byte(*mappings[i]) == static_cast<uint8_t>(i));
    CHECK(open_files() <= before + SharedFile::kMostIdle + 1);
  }
  CHECK(open_files() == before);
}

TEST_CASE("a file that is in use stays open, whatever others are used meanwhile") {
  const TemporaryFolder folder;
  const auto mappings = many(folder, 2 * SharedFile::kMostIdle);
  const auto held = mappings[0]->file();
  for (const auto& mapping : mappings) CHECK(first_byte(*mapping) >= 0);
  CHECK(fcntl(held.get(), F_GETFD) >= 0);
  CHECK(first_byte(*mappings[0]) == 0);
}

TEST_CASE("several threads may use the same and other files") {
  const TemporaryFolder folder;
  const auto mappings = many(folder, 2 * SharedFile::kMostIdle);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 4; ++seed) {
    threads.emplace_back([&, seed] {
      std::mt19937_64 random(seed);
      for (int round = 0; round < 2000; ++round) {
        const size_t i = random() % mappings.size();
        wrong += first_byte(*mappings[i]) != static_cast<uint8_t>(i);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("a file that was removed or replaced while it was closed is an error, not another file") {
  const TemporaryFolder folder;
  const auto mappings = many(folder, 2 * SharedFile::kMostIdle);
  unlink(folder.file("0").c_str());
  unlink(folder.file("1").c_str());
  close(open(folder.file("1").c_str(), O_CREAT | O_RDWR, 0600));
  for (const int i : {0, 1}) CHECK(code_of([&] { mappings[i]->sync(); }) == "IO_ERROR");
  CHECK(first_byte(*mappings[2]) == 2);
}

TEST_CASE("what has no name stays open") {
  const auto memory = Mapping::memfd("ram", kPage);
  const int fd = memory->file().get();
  const TemporaryFolder folder;
  const auto mappings = many(folder, 2 * SharedFile::kMostIdle);
  CHECK(memory->file().get() == fd);
  CHECK(fcntl(fd, F_GETFD) >= 0);
}
