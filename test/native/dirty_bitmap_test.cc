#include <doctest/doctest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>

#include "dirty/bitmap_log.h"
#include "dirty_support.h"

using namespace dirty_test;
using rdma_migrate::dirty::BitmapTracker;
using rdma_migrate::dirty::DirtyLog;

namespace {

// A log that two mappings of this test share: the VMM's and, by its descriptor, the tracker's.
struct Log {
  explicit Log(uint64_t bytes = kMiB) : memory(Mapping::memfd("log", bytes)) {}
  DirtyLog by_fd(uint64_t log_page_size = kPage, uint64_t offset = 0) const {
    DirtyLog log;
    log.fd = memory->file().get();
    log.offset = offset;
    log.log_page_size = log_page_size;
    return log;
  }
  DirtyLog by_address() const {
    DirtyLog log;
    log.address = memory->address();
    return log;
  }
  void mark(uint64_t page) {
    auto* words = reinterpret_cast<uint64_t*>(memory->data());
    std::atomic_ref<uint64_t>(words[page / 64]).fetch_or(uint64_t{1} << page % 64, std::memory_order_release);
  }

  std::shared_ptr<Mapping> memory;
};

std::vector<uint64_t> pages_in(const Bitmap& bitmap) {
  std::vector<uint64_t> pages;
  for (uint64_t page = bitmap.next_set(0, bitmap.pages()); page < bitmap.pages();
       page = bitmap.next_set(page + 1, bitmap.pages())) {
    pages.push_back(page);
  }
  return pages;
}

using Pages = std::vector<uint64_t>;

}  // namespace

TEST_CASE("takes what the VMM has marked since start, once, by descriptor and by address") {
  auto ram = Mapping::memfd("bm-ram", 8 * kMiB);
  Log log;
  for (const DirtyLog& described : {log.by_fd(), log.by_address()}) {
    log.mark(1);  // before
    BitmapTracker tracker({ram}, {described});
    tracker.start();
    auto bitmaps = bitmaps_for({ram});
    log.mark(0);
    log.mark(63);
    log.mark(2047);
    CHECK(tracker.collect(bitmaps) == 3);
    CHECK(pages_in(*bitmaps[0]) == Pages{0, 63, 2047});
    CHECK(tracker.collect(bitmaps) == 0);
    CHECK(bitmaps[0]->count() == 3);
  }
}

TEST_CASE("finds single bits anywhere in a long log, wherever that begins") {
  constexpr uint64_t kPages = 300'000;
  auto ram = Mapping::memfd("bm-ram", kPages * kPage);
  for (const uint64_t offset : {0, 8, 4088, 4096}) {
    CAPTURE(offset);
    Log log;
    BitmapTracker tracker({ram}, {log.by_fd(kPage, offset)});
    tracker.start();
    auto bitmaps = bitmaps_for({ram});
    Pages expected;
    // The first and last word, and every step that is no multiple of anything looked at in one go.
    for (uint64_t page = 0; page < kPages; page += 32'771) expected.push_back(page);
    expected.push_back(kPages - 1);
    for (const uint64_t page : expected) log.mark(page + offset * 8);
    CHECK(tracker.collect(bitmaps) == expected.size());
    CHECK(pages_in(*bitmaps[0]) == expected);
    CHECK(tracker.collect(bitmaps) == 0);
  }
}

TEST_CASE("bits past the end of the block are ignored") {
  auto ram = Mapping::memfd("bm-ram", 5 * kPage);
  Log log;
  BitmapTracker tracker({ram}, {log.by_fd()});
  tracker.start();
  auto bitmaps = bitmaps_for({ram});
  for (uint64_t page = 0; page < 100; ++page) log.mark(page);
  CHECK(tracker.collect(bitmaps) == 5);
}

TEST_CASE("a log of larger and of smaller pages than the block's") {
  auto ram = Mapping::memfd("bm-ram", 60 * kPage);
  Log log;
  for (const uint64_t size : {8 * kPage, 16 * kPage, kPage / 2, kPage / 8}) {
    CAPTURE(size);
    BitmapTracker tracker({ram}, {log.by_fd(size)});
    tracker.start();
    auto bitmaps = bitmaps_for({ram});
    log.mark(1);
    log.mark(3);
    std::vector<bool> expected(60);
    for (const uint64_t bit : {1, 3}) {
      for (uint64_t at = bit * size; at < (bit + 1) * size && at < 60 * kPage; at += 512)
        expected[at / kPage] = true;
    }
    CHECK(tracker.collect(bitmaps) ==
          static_cast<uint64_t>(std::count(expected.begin(), expected.end(), true)));
    for (uint64_t page = 0; page < 60; ++page) CHECK(bitmaps[0]->test(page) == expected[page]);
    for (uint64_t bit = 0; bit * size < 60 * kPage; ++bit) log.mark(bit);
    CHECK(tracker.collect(bitmaps) == 60);
    CHECK(tracker.collect(bitmaps) == 0);
  }
}

TEST_CASE("logs that cannot be right are refused before they are touched") {
  auto ram = Mapping::memfd("bm-ram", 8 * kMiB);  // 2048 pages: 256 bytes of log
  Log log(kPage);
  const auto code = [&](const DirtyLog& described) {
    return code_of([&] { BitmapTracker tracker({ram}, {described}); });
  };
  CHECK(code(log.by_fd(kPage, kPage - 256)) == "none");
  CHECK(code(log.by_fd(kPage, kPage - 248)) == "INVALID_ARGUMENT");
  CHECK(code(log.by_fd(kPage, 4)) == "INVALID_ARGUMENT");
  CHECK(code(log.by_fd(kPage, ~uint64_t{7})) == "INVALID_ARGUMENT");
  CHECK(code(log.by_fd(kPage, uint64_t{1} << 62)) == "INVALID_ARGUMENT");
  CHECK(code(log.by_fd(0)) == "INVALID_ARGUMENT");
  CHECK(code(log.by_fd(256)) == "INVALID_ARGUMENT");
  CHECK(code(log.by_fd(3 * kPage)) == "INVALID_ARGUMENT");
  CHECK(code(log.by_fd(uint64_t{1} << 63)) == "none");  // one bit for everything
  DirtyLog bad;
  CHECK(code(bad) == "INVALID_ARGUMENT");  // address 0
  bad.address = 8;
  CHECK(code(bad) == "INVALID_ARGUMENT");  // not mapped
  bad.address = log.memory->address() + 4;
  CHECK(code(bad) == "INVALID_ARGUMENT");
  bad.address = ~uint64_t{7};
  CHECK(code(bad) == "INVALID_ARGUMENT");  // wraps around
  bad.address = reinterpret_cast<uint64_t>("read-only") & ~uint64_t{7};
  CHECK(code(bad) == "INVALID_ARGUMENT");
  DirtyLog stray;
  stray.fd = 9999;
  CHECK(code(stray) == "INVALID_ARGUMENT");
  int pipes[2];
  REQUIRE(pipe(pipes) == 0);
  stray.fd = pipes[0];
  CHECK(code(stray) == "INVALID_ARGUMENT");
  close(pipes[0]);
  close(pipes[1]);
  CHECK(code_of([&] { BitmapTracker tracker({ram, ram}, {log.by_fd()}); }) == "INVALID_ARGUMENT");
}

TEST_CASE("a log that is cut short while it is tracked is an error and no signal") {
  auto ram = Mapping::memfd("bm-ram", 8 * kMiB);
  DirtyLog log;
  log.fd = memfd_create("unsealed", MFD_CLOEXEC);
  REQUIRE(ftruncate(log.fd, kPage) == 0);
  BitmapTracker tracker({ram}, {log});
  tracker.start();
  REQUIRE(ftruncate(log.fd, 0) == 0);
  close(log.fd);
  auto bitmaps = bitmaps_for({ram});
  CHECK(code_of([&] { tracker.collect(bitmaps); }) == "IO_ERROR");
}

TEST_CASE("no write is lost: a VMM in another process writes and marks at full speed") {
  auto ram = Mapping::memfd("bm-storm", 4 * kMiB);
  Log log;
  auto control = Mapping::memfd("bm-control", kPage);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    uint64_t state = 1;
    for (uint64_t sequence = 1; load(control->data()) == 0; ++sequence) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      const uint64_t page = (state >> 33) % (sequence % 2 == 0 ? 1024 : 8);
      store(ram->data() + page * kPage + (state >> 50) % 512 * 8, sequence);
      log.mark(page);
      store(control->data() + 8, sequence);
    }
    _exit(0);
  }
  BitmapTracker tracker({ram}, {log.by_fd()});
  tracker.start();
  Mirror mirror(tracker, {ram});
  // On a busy machine the child may not have run yet, and there would be nothing to lose.
  const uint64_t written = load(control->data() + 8);
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (load(control->data() + 8) < written + 1000 && std::chrono::steady_clock::now() < until) usleep(100);
  mirror.follow(400);
  store(control->data(), 1);
  CHECK(waitpid(child, nullptr, 0) == child);
  mirror.finish();
  CHECK(mirror.found() > 0);
}
