#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <ostream>
#include <thread>

#include "dirty/write_protect.h"
#include "dirty_support.h"
#include "support/sanitizer.h"

using namespace dirty_test;
using rdma_migrate::dirty::ProtectMode;
using rdma_migrate::dirty::track_by_write_protection;
using rdma_migrate::dirty::write_protect_support;

namespace {

// The ways this kernel has; the others are named once.
std::vector<ProtectMode> find_modes() {
  std::vector<ProtectMode> found;
  for (const ProtectMode mode : {ProtectMode::kAsynchronous, ProtectMode::kFaultThread}) {
    const std::string problem = memory_test::message_of(
        [&] { track_by_write_protection({Mapping::memfd("wp-probe", kMiB)}, mode)->start(); });
    if (problem.empty()) {
      found.push_back(mode);
    } else {
      std::printf("NOT RUN: %s: %s\n", mode == ProtectMode::kAsynchronous ? "asynchronous" : "fault thread",
                  problem.c_str());
    }
  }
  return found;
}
const std::vector<ProtectMode>& modes() {
  static const std::vector<ProtectMode> found = find_modes();
  return found;
}

std::string name_of(ProtectMode mode) {
  return mode == ProtectMode::kAsynchronous ? "asynchronous" : "fault thread";
}

template <typename Body>
void in_each_mode(Body body) {
  for (const ProtectMode mode : modes()) {
    const std::string name = name_of(mode);
    CAPTURE(name);
    body(mode);
  }
}

// Compared as a list, shown as text.
struct Pages : std::vector<uint64_t> {
  using std::vector<uint64_t>::vector;
};
std::ostream& operator<<(std::ostream& out, const Pages& pages) {
  for (const uint64_t page : pages) out << page << ' ';
  return out;
}

// Started, and the bitmaps for it.
struct Watch {
  Watch(Blocks to_watch, ProtectMode mode)
      : blocks(to_watch), bitmaps(bitmaps_for(blocks)), tracker(track_by_write_protection(to_watch, mode)) {
    tracker->start();
  }
  // The pages of the first block that a collect finds, from clean bitmaps.
  Pages collect() {
    for (auto& bitmap : bitmaps) bitmap->clear_range(0, bitmap->pages());
    tracker->collect(bitmaps);
    Pages pages;
    const Bitmap& bitmap = *bitmaps[0];
    for (uint64_t page = bitmap.next_set(0, bitmap.pages()); page < bitmap.pages();
         page = bitmap.next_set(page + 1, bitmap.pages())) {
      pages.push_back(page);
    }
    return pages;
  }

  Blocks blocks;
  BitmapList bitmaps;
  std::unique_ptr<Tracker> tracker;
};

void punch(const Mapping& mapping, uint64_t page, uint64_t count) {
  REQUIRE(fallocate(mapping.file().get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                    static_cast<off_t>(page * mapping.page_size()),
                    static_cast<off_t>(count * mapping.page_size())) == 0);
}

}  // namespace

TEST_CASE("exactly the pages written since the last collect show, once each") {
  in_each_mode([](ProtectMode mode) {
    auto mapping = Mapping::memfd("wp-exact", 8 * kMiB);
    store(mapping->data() + 5 * kPage, 1);
    Watch watch({mapping}, mode);
    CHECK(watch.collect().empty());
    store(mapping->data() + 5 * kPage, 2);        // present before
    store(mapping->data() + 700 * kPage + 8, 3);  // a hole before
    CHECK(load(mapping->data() + 5 * kPage) == 2);
    CHECK(watch.collect() == Pages{5, 700});
    CHECK(watch.collect().empty());
    store(mapping->data() + 700 * kPage + 16, 4);
    CHECK(watch.collect() == Pages{700});
    CHECK(watch.tracker->collect(watch.bitmaps) == 0);
    CHECK(watch.bitmaps[0]->test(700));  // set bits stay
  });
}

TEST_CASE("writes of system calls show") {
  in_each_mode([](ProtectMode mode) {
    const memory_test::Anonymous memory(2 * kMiB);
    auto shared = Mapping::memfd("wp-syscall", 2 * kMiB);
    for (auto mapping : {map_anonymous(memory, 2 * kMiB), shared}) {
      Watch watch({mapping}, mode);
      CHECK(watch.collect().empty());
      const int zero = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
      CHECK(read(zero, mapping->data() + 9 * kPage, 100) == 100);
      close(zero);
      CHECK(watch.collect() == Pages{9});
    }
  });
}

TEST_CASE("a page that is given back shows as written, and so does what is written into it later") {
  in_each_mode([](ProtectMode mode) {
    const memory_test::Anonymous memory(4 * kMiB);
    auto anonymous = map_anonymous(memory, 4 * kMiB);
    for (uint64_t page = 0; page < 64; ++page) store(anonymous->data() + page * kPage, page + 1);
    Watch watch({anonymous}, mode);
    REQUIRE(madvise(anonymous->data() + 10 * kPage, 2 * kPage, MADV_DONTNEED) == 0);
    CHECK(watch.collect() == Pages{10, 11});
    CHECK(watch.collect().empty());
    store(anonymous->data() + 11 * kPage, 7);
    CHECK(watch.collect() == Pages{11});
    store(anonymous->data() + 12 * kPage, 7);
    REQUIRE(madvise(anonymous->data() + 12 * kPage, kPage, MADV_DONTNEED) == 0);
    CHECK(watch.collect() == Pages{12});

    auto shared = Mapping::memfd("wp-punch", 4 * kMiB);
    for (uint64_t page = 0; page < 64; ++page) store(shared->data() + page * kPage, page + 1);
    Watch second({shared}, mode);
    punch(*shared, 20, 3);
    CHECK(second.collect() == Pages{20, 21, 22});
    CHECK(second.collect().empty());
    store(shared->data() + 21 * kPage, 7);
    CHECK(second.collect() == Pages{21});
    store(shared->data() + 30 * kPage, 7);
    punch(*shared, 30, 1);
    CHECK(second.collect() == Pages{30});
    punch(*shared, 21, 1);
    CHECK(second.collect() == Pages{21});
    REQUIRE(madvise(shared->data() + 40 * kPage, kPage, MADV_REMOVE) == 0);
    CHECK(second.collect() == Pages{40});
  });
}

TEST_CASE("a page that was given back and then only read shows") {
  in_each_mode([](ProtectMode mode) {
    auto owner = Mapping::memfd("wp-reread", 4 * kMiB);
    const auto caller = Mapping::caller(owner->address(), 4 * kMiB);  // without its file
    for (const auto& mapping : {owner, caller}) {
      for (uint64_t page = 0; page < 64; ++page) store(mapping->data() + page * kPage, page + 1);
      Watch watch({mapping}, mode);
      CHECK(watch.collect().empty());
      punch(*owner, 5, 2);
      CHECK(load(mapping->data() + 5 * kPage) == 0);  // fills the hole
      CHECK(watch.collect() == Pages{5, 6});
      CHECK(watch.collect().empty());
      store(mapping->data() + 5 * kPage, 1);
      CHECK(watch.collect() == Pages{5});
      punch(*owner, 5, 1);
      CHECK(load(mapping->data() + 5 * kPage) == 0);
      CHECK(watch.collect() == Pages{5});
      CHECK(watch.collect().empty());
    }
  });
}

TEST_CASE("pages given back show in a caller's shared range whose file is not known") {
  in_each_mode([](ProtectMode mode) {
    auto owner = Mapping::memfd("wp-callers", 4 * kMiB);
    for (uint64_t page = 0; page < 64; ++page) store(owner->data() + page * kPage, page + 1);
    auto mapping = Mapping::caller(owner->address(), 4 * kMiB);
    Watch watch({mapping}, mode);
    CHECK(watch.collect().empty());
    punch(*owner, 3, 2);
    CHECK(watch.collect() == Pages{3, 4});
    CHECK(watch.collect().empty());
  });
}

TEST_CASE("no write is lost: writers at full speed, pages given back, system calls") {
  in_each_mode([](ProtectMode mode) {
    const memory_test::Anonymous memory(4 * kMiB);
    auto anonymous = map_anonymous(memory, 4 * kMiB);
    auto shared = Mapping::memfd("wp-storm", 4 * kMiB);
    auto tracker = track_by_write_protection({anonymous, shared}, mode);
    Guest guest;
    for (const auto& mapping : {anonymous, shared}) guest.run(page_writer(mapping));
    guest.run([=](std::mt19937_64& random, uint64_t) {
      const uint64_t page = random() % 1024;
      madvise(anonymous->data() + page * kPage, kPage, MADV_DONTNEED);
      punch(*shared, random() % 1024, 1);
      const int source = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
      // Not read(): a sanitizer would take it for a race, which it is, and is meant to be.
      CHECK(syscall(SYS_read, source, shared->data() + random() % 1024 * kPage, 64) == 64);
      close(source);
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    });
    tracker->start();
    Mirror mirror(*tracker, {anonymous, shared});
    mirror.follow(rdma_migrate::test::rounds(150));
    guest.pause();
    mirror.finish();
    CHECK(mirror.found() > 0);
  });
}

TEST_CASE("no write is lost when pages are copied while the collect that finds them still runs") {
  in_each_mode([](ProtectMode mode) {
    for (int round = 0; round < rdma_migrate::test::rounds(40); ++round) {
      auto mapping = Mapping::memfd("wp-close", 8 * kMiB);
      const auto write_all = [&] {
        for (uint64_t page = 0; page < 2048; ++page) store(mapping->data() + page * kPage, 1);
      };
      write_all();
      auto tracker = track_by_write_protection({mapping}, mode);
      tracker->start();
      Mirror mirror(*tracker, {mapping});
      mirror.follow(0);
      if (round % 2 == 0) {
        write_all();
      } else {
        punch(*mapping, 0, 2048);
      }
      mirror.follow_closely();
      mirror.finish();
    }
  });
}

TEST_CASE("a stop while writers are held and while a collect runs leaves no writer waiting") {
  in_each_mode([](ProtectMode mode) {
    for (int round = 0; round < 20; ++round) {
      auto mapping = Mapping::memfd("wp-stop", 4 * kMiB);
      auto tracker = track_by_write_protection({mapping}, mode);
      Guest guest;
      for (int i = 0; i < 3; ++i) guest.run(page_writer(mapping));
      tracker->start();
      std::thread collector([&] {
        auto bitmaps = bitmaps_for({mapping});
        for (std::string code = "none"; code == "none";) code = code_of([&] { tracker->collect(bitmaps); });
      });
      std::this_thread::sleep_for(std::chrono::microseconds(100 * round));
      tracker->stop();
      collector.join();
      guest.pause();  // ends only if every writer goes on
      for (uint64_t page = 0; page < 1024; ++page) store(mapping->data() + page * kPage, page);
    }
  });
}

TEST_CASE("a tracker that is let go without a stop leaves the memory writable") {
  in_each_mode([](ProtectMode mode) {
    auto mapping = Mapping::memfd("wp-dropped", kMiB);
    { Watch watch({mapping}, mode); }
    for (uint64_t page = 0; page < 256; ++page) store(mapping->data() + page * kPage, page + 1);
    Watch again({mapping}, mode);
    CHECK(again.collect().empty());
  });
}

TEST_CASE("a huge sparse range costs page tables, not pages, and a collect of it is short") {
  in_each_mode([](ProtectMode mode) {
    constexpr uint64_t kLength = uint64_t{16} << 30;
    std::shared_ptr<Mapping> mapping;
    try {
      mapping = Mapping::memfd("wp-sparse", kLength);
    } catch (const Error& error) {
      std::printf("NOT RUN: a huge sparse range: %s\n", error.what());
      return;
    }
    for (uint64_t page = 0; page < 1024; ++page) store(mapping->data() + page * 997 * kPage, page + 1);
    std::unique_ptr<Watch> watch;
    const double start = milliseconds([&] { watch = std::make_unique<Watch>(Blocks{mapping}, mode); });
    CHECK(memory_test::allocated_bytes(*mapping) == 1024 * kPage);
    double dense = 0, sparse = milliseconds([&] { CHECK(watch->collect().empty()); });
    store(mapping->data() + kLength - 8, 1);
    CHECK(watch->collect() == Pages{kLength / kPage - 1});
    auto small = Mapping::memfd("wp-dense", uint64_t{256} << 20);
    for (uint64_t at = 0; at < small->length(); at += kPage) store(small->data() + at, 1);
    Watch dense_watch({small}, mode);
    dense = milliseconds([&] { dense_watch.collect(); });
    std::printf("%s, 16 GiB sparse: start %.1f ms, collect %.1f ms; 256 MiB in use: collect %.2f ms\n",
                name_of(mode).c_str(), start, sparse, dense);
  });
}

TEST_CASE("memory that cannot be protected is refused, with its name") {
  in_each_mode([](ProtectMode mode) {
    const memory_test::TemporaryFolder folder("/var/tmp");
    auto file = Mapping::file(folder.file("ram"), kMiB, memory_test::FileMode::kCreate);
    auto tracker = track_by_write_protection({file}, mode);
    const std::string message = memory_test::message_of([&] { tracker->start(); });
    if (message.empty()) {
      std::printf("NOT RUN: /var/tmp is a tmpfs, whose files can be protected\n");
    } else {
      CHECK(message.find(folder.file("ram")) != std::string::npos);
    }
    auto reader = Mapping::file(folder.file("ram"), kMiB, memory_test::FileMode::kRead);
    CHECK(code_of([&] { track_by_write_protection({reader}, mode); }) == "TRACKER_UNAVAILABLE");
  });
}

TEST_CASE("what would be chosen is known beforehand") {
  const auto shared = Mapping::memfd("wp-support", kMiB);
  const auto support = write_protect_support({shared});
  CHECK(support.mode.has_value() == !modes().empty());
  if (support.mode) CHECK(*support.mode == modes().front());
  CHECK(support.problem.empty() == support.mode.has_value());
  store(shared->data(), 1);
  const memory_test::TemporaryFolder folder;
  Mapping::file(folder.file("ram"), kMiB, memory_test::FileMode::kCreate);
  const auto reader = Mapping::file(folder.file("ram"), kMiB, memory_test::FileMode::kRead);
  CHECK(write_protect_support({shared, reader}).problem.find("read-only") != std::string::npos);
}

TEST_CASE("calls out of order and bitmaps that do not fit are refused") {
  auto mapping = Mapping::memfd("wp-order", kMiB);
  CHECK(code_of([] { track_by_write_protection({}); }) == "INVALID_ARGUMENT");
  if (modes().empty()) return;
  auto tracker = track_by_write_protection({mapping});
  auto bitmaps = bitmaps_for({mapping});
  CHECK(code_of([&] { tracker->collect(bitmaps); }) == "INVALID_ARGUMENT");
  tracker->start();
  CHECK(code_of([&] { tracker->start(); }) == "INVALID_ARGUMENT");
  const BitmapList none, short_one = {std::make_shared<Bitmap>(255)};
  CHECK(code_of([&] { tracker->collect(none); }) == "INVALID_ARGUMENT");
  CHECK(code_of([&] { tracker->collect(short_one); }) == "INVALID_ARGUMENT");
  tracker->stop();
  tracker->stop();
  CHECK(code_of([&] { tracker->collect(bitmaps); }) == "CANCELLED");
  CHECK(code_of([&] { tracker->start(); }) == "CANCELLED");
}

TEST_CASE("two trackers of the same memory: the second is refused and the first goes on") {
  in_each_mode([](ProtectMode mode) {
    auto mapping = Mapping::memfd("wp-twice", kMiB);
    Watch first({mapping}, mode);
    auto second = track_by_write_protection({mapping}, mode);
    CHECK(code_of([&] { second->start(); }) == "TRACKER_UNAVAILABLE");
    store(mapping->data() + 3 * kPage, 1);
    CHECK(first.collect() == Pages{3});
  });
}

TEST_CASE("huge pages: written, given back and never touched ones") {
  std::shared_ptr<Mapping> mapping;
  try {
    mapping = Mapping::memfd("wp-huge", 16 * kMiB, 2 * kMiB);
  } catch (const Error& error) {
    std::printf("NOT RUN: huge pages: %s\n", error.what());
    return;
  }
  in_each_mode([&](ProtectMode mode) {
    store(mapping->data(), 1);
    Watch watch({mapping}, mode);
    CHECK(watch.collect().empty());
    store(mapping->data() + 2 * kMiB + 8, 1);
    store(mapping->data() + 6 * kMiB, 1);
    CHECK(watch.collect() == Pages{1, 3});
    CHECK(watch.collect().empty());
    punch(*mapping, 3, 1);
    CHECK(watch.collect() == Pages{3});
    store(mapping->data() + 15 * kMiB, 1);
    CHECK(watch.collect() == Pages{7});
    punch(*mapping, 0, 8);
  });
}

TEST_CASE("a caller's range of huge pages is tracked, or refused before anybody waits for it") {
  std::shared_ptr<Mapping> owner;
  try {
    owner = Mapping::memfd("wp-huge-caller", 8 * kMiB, 2 * kMiB);
  } catch (const Error& error) {
    std::printf("NOT RUN: a caller's range of huge pages: %s\n", error.what());
    return;
  }
  for (uint64_t page = 0; page < 512; ++page) store(owner->data() + page * kPage, 1);
  const auto caller = Mapping::caller(owner->address(), owner->length());
  in_each_mode([&](ProtectMode mode) {
    if (mode == ProtectMode::kFaultThread) {
      auto tracker = track_by_write_protection({caller}, mode);
      CHECK(code_of([&] { tracker->start(); }) == "TRACKER_UNAVAILABLE");
      store(owner->data(), 2);
      return;
    }
    Watch watch({caller}, mode);
    CHECK(watch.collect().empty());
    store(owner->data() + 2 * kMiB, 1);
    CHECK(watch.collect().size() == 512);
    CHECK(watch.collect().empty());
  });
}
