#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "dirty/soft_dirty.h"
#include "dirty_support.h"

using namespace dirty_test;
using rdma_migrate::dirty::Halt;
using rdma_migrate::dirty::SoftDirtyOptions;
using rdma_migrate::dirty::SoftDirtyTracker;
using rdma_migrate::dirty::TargetProcess;

namespace {

bool has_soft_dirty() {
  static const bool has = SoftDirtyTracker::supported();
  static bool told = false;
  if (!has && !told)
    std::printf("NOT RUN: soft-dirty bits: this kernel does not keep them (CONFIG_MEM_SOFT_DIRTY)\n");
  told = true;
  return has;
}

// A process that shares RAM with this one and does what the test says. Made before this process has threads.
class Child {
 public:
  explicit Child(std::shared_ptr<Mapping> ram)
      : ram_(std::move(ram)), control_(Mapping::memfd("sd-control", memory_test::kPage)) {
    pid_ = fork();
    if (pid_ == 0) {
      run();
      _exit(0);
    }
  }
  ~Child() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  pid_t pid() const { return pid_; }
  void write_page(uint64_t page, uint64_t value) {
    store(word(kPage), page);
    store(word(kValue), value);
    command(kWrite);
  }
  void discard_page(uint64_t page) {
    store(word(kPage), page);
    command(kDiscard);
  }
  void storm() { store(word(kStorming), 1); }
  void rest() {
    store(word(kStorming), 0);
    command(kRest);
  }
  uint64_t heartbeat() const { return load(word(kHeartbeat)); }

 private:
  enum Command : uint64_t { kRest = 1, kWrite, kDiscard };
  // Words of the control page.
  enum Word : uint64_t { kStorming, kAsked, kPage, kValue, kHeartbeat, kAnswered, kCommand, kWriting };

  uint8_t* word(uint64_t index) const { return control_->data() + index * 8; }
  // Waits until the child has done it.
  void command(Command what) {
    store(word(kCommand), what);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    store(word(kAsked), ++asked_);
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (load(word(kAnswered)) != asked_) {
      const bool stands = std::chrono::steady_clock::now() >= deadline && TargetProcess(pid_).stands();
      CAPTURE(stands);
      CAPTURE(load(word(kHeartbeat)));
      REQUIRE(std::chrono::steady_clock::now() < deadline);
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  }
  void run() {
    std::vector<std::thread> writers;
    for (uint64_t i = 0; i < 2; ++i) {
      writers.emplace_back([this, i] {
        std::mt19937_64 random(i);
        const auto step = page_writer(ram_);
        for (uint64_t sequence = 1;; ++sequence) {
          store(word(kWriting + i), 1);
          std::atomic_thread_fence(std::memory_order_seq_cst);
          if (load(word(kStorming)) == 1) step(random, sequence);
          store(word(kWriting + i), 0);
          store(word(kHeartbeat), sequence);
        }
      });
    }
    for (;;) serve();
  }
  void serve() {
    const uint64_t asked = load(word(kAsked));
    if (asked == load(word(kAnswered))) return;
    std::atomic_thread_fence(std::memory_order_seq_cst);
    uint8_t* page = ram_->data() + load(word(kPage)) * memory_test::kPage;
    switch (load(word(kCommand))) {
      case kWrite:
        store(page, load(word(kValue)));
        break;
      case kDiscard:
        madvise(page, memory_test::kPage, MADV_DONTNEED);
        break;
      default:
        for (uint64_t i = 0; i < 2; ++i) {
          while (load(word(kWriting + i)) != 0) {
          }
        }
    }
    std::atomic_thread_fence(std::memory_order_seq_cst);
    store(word(kAnswered), asked);
  }

  std::shared_ptr<Mapping> ram_, control_;
  pid_t pid_;
  uint64_t asked_ = 0;
};

SoftDirtyOptions options_for(pid_t pid) {
  SoftDirtyOptions options;
  options.pid = pid;
  return options;
}

// "5 1500"
std::string collect(SoftDirtyTracker& tracker, BitmapList& bitmaps) {
  bitmaps[0]->clear_range(0, bitmaps[0]->pages());
  tracker.collect(bitmaps);
  std::string pages;
  for (uint64_t page = bitmaps[0]->next_set(0, bitmaps[0]->pages()); page < bitmaps[0]->pages();
       page = bitmaps[0]->next_set(page + 1, bitmaps[0]->pages())) {
    if (!pages.empty()) pages += ' ';
    pages += std::to_string(page);
  }
  return pages;
}

}  // namespace

TEST_CASE("a process stands still while it is held, and goes on") {
  Child child(Mapping::memfd("sd-halt", kMiB));
  const TargetProcess target(child.pid());
  for (int round = 0; round < 50; ++round) {
    {
      const Halt halt(target, "", std::chrono::seconds(5));
      CHECK(target.stands());
      const uint64_t before = child.heartbeat();
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      CHECK(child.heartbeat() == before);
    }
    const uint64_t before = child.heartbeat();
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (child.heartbeat() == before) REQUIRE(std::chrono::steady_clock::now() < deadline);
  }
}

TEST_CASE("a process that somebody has stopped is left so") {
  Child child(Mapping::memfd("sd-stopped", kMiB));
  const TargetProcess target(child.pid());
  REQUIRE(kill(child.pid(), SIGSTOP) == 0);
  while (!target.stands()) std::this_thread::yield();
  { const Halt halt(target, "", std::chrono::seconds(5)); }
  CHECK(target.stands());
}

TEST_CASE("a deadline that passes lets the process run on") {
  Child child(Mapping::memfd("sd-deadline", kMiB));
  const TargetProcess target(child.pid());
  // Held for no time at all: whether it stood in time is chance, but not that it runs on.
  for (int i = 0; i < 20; ++i) {
    const std::string code = code_of([&] { const Halt halt(target, "", std::chrono::milliseconds(0)); });
    CHECK((code == "TIMEOUT" || code == "none"));
  }
  const uint64_t before = child.heartbeat();
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (child.heartbeat() == before) REQUIRE(std::chrono::steady_clock::now() < deadline);
}

TEST_CASE("processes that cannot be tracked are refused") {
  CHECK(code_of([] { TargetProcess target(0); }) == "INVALID_ARGUMENT");
  CHECK(code_of([] { TargetProcess target(getpid()); }) == "INVALID_ARGUMENT");
  CHECK(code_of([] { TargetProcess target(INT32_MAX); }) == "TRACKER_UNAVAILABLE");
  auto ram = Mapping::memfd("sd-refused", kMiB);
  const memory_test::Anonymous memory(kMiB);
  Child child(ram);
  CHECK(code_of([&] { SoftDirtyTracker tracker({map_anonymous(memory, kMiB)}, options_for(child.pid())); }) ==
        "TRACKER_UNAVAILABLE");
  SoftDirtyOptions addresses = options_for(child.pid());
  addresses.addresses = {1, 2};
  CHECK(code_of([&] { SoftDirtyTracker tracker({ram}, addresses); }) == "INVALID_ARGUMENT");
  if (has_soft_dirty()) return;
  SoftDirtyTracker tracker({ram}, options_for(child.pid()));
  CHECK(code_of([&] { tracker.start(); }) == "TRACKER_UNAVAILABLE");
}

TEST_CASE("addresses that are not the block's are refused") {
  if (!has_soft_dirty()) return;
  auto ram = Mapping::memfd("sd-wrong", kMiB), other = Mapping::memfd("sd-other", kMiB);
  Child child(ram);
  for (const uint64_t address :
       {ram->address() + kPage, other->address(), uint64_t{4096}, uint64_t{1}, ~uint64_t{4095}}) {
    SoftDirtyOptions options = options_for(child.pid());
    options.addresses = {address};
    SoftDirtyTracker tracker({ram}, options);
    const std::string code = code_of([&] { tracker.start(); });
    CHECK((code == "TRACKER_UNAVAILABLE" || code == "INVALID_ARGUMENT"));
  }
  auto unshared = Mapping::memfd("sd-unshared", kMiB);  // made after the fork
  SoftDirtyTracker tracker({unshared}, options_for(child.pid()));
  CHECK(code_of([&] { tracker.start(); }) == "TRACKER_UNAVAILABLE");
}

TEST_CASE("exactly the pages that the process wrote show, also of memory it had never touched") {
  if (!has_soft_dirty()) return;
  auto ram = Mapping::memfd("sd-exact", 8 * kMiB);
  for (uint64_t page = 0; page < 100; ++page) store(ram->data() + page * kPage, page + 1);
  Child child(ram);
  SoftDirtyTracker tracker({ram}, options_for(child.pid()));
  tracker.start();
  auto bitmaps = bitmaps_for({ram});
  CHECK(collect(tracker, bitmaps).empty());
  child.write_page(5, 1);
  child.write_page(1500, 2);
  CHECK(collect(tracker, bitmaps) == "5 1500");
  CHECK(tracker.last_pause().count() > 0);
  CHECK(collect(tracker, bitmaps).empty());
  // Written and dropped from its page tables before the bits are read.
  child.write_page(7, 9);
  child.discard_page(7);
  CHECK(collect(tracker, bitmaps) == "7");
  CHECK(collect(tracker, bitmaps).empty());
  REQUIRE(fallocate(ram->file().get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 20 * kPage, 2 * kPage) ==
          0);
  CHECK(collect(tracker, bitmaps) == "20 21");
  CHECK(collect(tracker, bitmaps).empty());
}

TEST_CASE("no write is lost: two threads of the process write at full speed") {
  if (!has_soft_dirty()) return;
  auto ram = Mapping::memfd("sd-storm", 4 * kMiB);
  Child child(ram);
  SoftDirtyTracker tracker({ram}, options_for(child.pid()));
  child.storm();
  tracker.start();
  Mirror mirror(tracker, {ram});
  mirror.follow(100);
  std::printf("soft-dirty: the process stood still for %.2f ms in the last collect of 4 MiB\n",
              tracker.last_pause().count());
  child.rest();
  mirror.finish();
  CHECK(mirror.found() > 0);
}

TEST_CASE("the end of the process is noticed") {
  if (!has_soft_dirty()) return;
  auto ram = Mapping::memfd("sd-end", kMiB);
  auto child = std::make_unique<Child>(ram);
  SoftDirtyTracker tracker({ram}, options_for(child->pid()));
  tracker.start();
  child.reset();
  auto bitmaps = bitmaps_for({ram});
  CHECK(code_of([&] { tracker.collect(bitmaps); }) == "TRACKER_UNAVAILABLE");
}

TEST_CASE("what a collect of much memory costs") {
  if (!has_soft_dirty()) return;
  auto ram = Mapping::memfd("sd-large", 256 * kMiB);
  for (uint64_t at = 0; at < ram->length(); at += kPage) store(ram->data() + at, 1);
  Child child(ram);
  SoftDirtyTracker tracker({ram}, options_for(child.pid()));
  const double start = milliseconds([&] { tracker.start(); });
  auto bitmaps = bitmaps_for({ram});
  const double clean = milliseconds([&] { CHECK(collect(tracker, bitmaps).empty()); });
  std::vector<uint8_t> copy(ram->length(), 1);
  const double copying = milliseconds([&] { std::memcpy(copy.data(), ram->data(), ram->length()); });
  std::printf(
      "soft-dirty, 256 MiB: start %.1f ms, collect %.1f ms, stood still for %.1f ms; copying it %.1f ms\n",
      start, clean, tracker.last_pause().count(), copying);
}
