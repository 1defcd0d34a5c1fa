// The bulk writer over queue pairs that do what the test says: what is posted, in which order, and what
// becomes of jobs.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "engine/bulk_writer.h"
#include "engine/work_request_id.h"
#include "memory/mapping.h"
#include "support/cut_file.h"
#include "support/scripted.h"

namespace rdma_migrate::engine {
namespace {

using fabric::Completion;
using fabric::SendWorkRequest;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kLocal = 0x10000000;
constexpr uint64_t kRemote = 0x7f0000000000;

// A job's end, once.
class Outcome {
 public:
  BulkWriter::Done done() {
    return [this](const WriteResult& result) {
      std::lock_guard lock(mutex_);
      result_ = result;
      ++times_;
      changed_.notify_all();
    };
  }
  WriteResult wait() {
    std::unique_lock lock(mutex_);
    REQUIRE(changed_.wait_for(lock, std::chrono::seconds(30), [this] { return times_ > 0; }));
    return result_;
  }
  int times() {
    std::lock_guard lock(mutex_);
    return times_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  WriteResult result_;
  int times_ = 0;
};

// A queue pair of the writer and its events.
struct Lane final : fabric::QueuePairEvents {
  Lane(BulkWriter& of, test::ScriptedDomain& domain, uint32_t max_outstanding)
      : writer(of), queue_pair(*this), lane(&writer.add(domain, queue_pair, max_outstanding)) {}
  void on_established(std::span<const uint8_t>) override {}
  void on_send(std::span<const fabric::Completion> completions) override {
    writer.on_send(*lane, completions);
  }
  void on_recv(std::span<const fabric::Completion>) override {}
  void on_notify() override { writer.on_notify(*lane); }
  void on_closed(const Error*) override {}

  BulkWriter& writer;
  test::ScriptedQueuePair queue_pair;
  WriteLane* const lane;
};

struct Bench {
  explicit Bench(uint32_t max_outstanding = 500, size_t count = 1) {
    for (size_t i = 0; i < count; ++i)
      lanes.push_back(std::make_unique<Lane>(writer, domain, max_outstanding));
  }
  ~Bench() { end(); }
  // As an endpoint closes.
  void end() {
    writer.cancel();
    for (const auto& lane : lanes) lane->queue_pair.close();
    writer.join();
  }
  test::ScriptedQueuePair& lane(size_t i) { return lanes[i]->queue_pair; }
  void complete_at_once() {
    for (const auto& lane : lanes) lane->queue_pair.complete_at_once = true;
  }
  WriteJob job(std::shared_ptr<memory::Bitmap> bitmap, uint64_t first_page, uint64_t pages) {
    WriteJob work;
    work.local_address = kLocal;
    work.remote_address = kRemote;
    work.spans = {{first_page * kPage, pages * kPage, 11, 22}};
    work.bitmap = std::move(bitmap);
    return work;
  }

  test::ScriptedDomain domain;
  BulkWriter writer;
  std::vector<std::unique_ptr<Lane>> lanes;
};

TEST_CASE("neighbouring pages travel as one WRITE of at most 2 MiB, and their bits are taken") {
  Bench bench;
  bench.complete_at_once();
  auto bitmap = std::make_shared<memory::Bitmap>(4096);
  bitmap->set_range(10, 600);  // 2 MiB and 88 pages
  bitmap->set_range(1000, 1);
  Outcome outcome;
  bench.writer.submit(bench.job(bitmap, 0, 4096), outcome.done());
  const WriteResult result = outcome.wait();
  CHECK(result.ok);
  CHECK(result.pages == 601);
  CHECK(result.bytes == 601 * kPage);
  CHECK(bitmap->count() == 0);
  const auto posted = bench.lane(0).posted();
  REQUIRE(posted.size() == 3);
  CHECK(posted[0].address == kLocal + 10 * kPage);
  CHECK(posted[0].remote_address == kRemote + 10 * kPage);
  CHECK(posted[0].length == kMaxWriteBytes);
  CHECK(posted[1].length == 88 * kPage);
  CHECK(posted[2].address == kLocal + 1000 * kPage);
  CHECK(posted[2].lkey == 11);
  CHECK(posted[2].rkey == 22);
  CHECK(posted[2].signaled);
}

TEST_CASE("spans of one job are written in their order, each with its own keys, and nothing between them") {
  Bench bench;
  bench.complete_at_once();
  auto bitmap = std::make_shared<memory::Bitmap>(4096);
  bitmap->set_range(0, 4096);
  WriteJob work = bench.job(bitmap, 0, 0);
  work.spans = {{1024 * kPage, 2 * kPage, 31, 41},
                {0, 3 * kPage, 32, 42},
                {3 * kPage, 700 * kPage, 33, 43},
                {2048 * kPage, 0, 34, 44},
                {4095 * kPage, kPage, 35, 45}};
  bitmap->clear_range(1, 1);
  Outcome outcome;
  bench.writer.submit(std::move(work), outcome.done());
  const WriteResult result = outcome.wait();
  CHECK(result.ok);
  CHECK(result.pages == 2 + 2 + 700 + 1);
  const auto posted = bench.lane(0).posted();
  REQUIRE(posted.size() == 6);
  struct Expected {
    uint64_t page, pages;
    uint32_t lkey, rkey;
  };
  const Expected expected[] = {{1024, 2, 31, 41}, {0, 1, 32, 42},     {2, 1, 32, 42},
                               {3, 512, 33, 43},  {515, 188, 33, 43}, {4095, 1, 35, 45}};
  for (size_t i = 0; i < 6; ++i) {
    CAPTURE(i);
    CHECK(posted[i].address == kLocal + expected[i].page * kPage);
    CHECK(posted[i].remote_address == kRemote + expected[i].page * kPage);
    CHECK(posted[i].length == expected[i].pages * kPage);
    CHECK(posted[i].lkey == expected[i].lkey);
    CHECK(posted[i].rkey == expected[i].rkey);
  }
  // Bits outside of the spans are as they were.
  CHECK(bitmap->count() == 4096 - 705 - 1);
}

TEST_CASE("a job without spans ends at once") {
  Bench bench;
  WriteJob work = bench.job(std::make_shared<memory::Bitmap>(16), 0, 0);
  work.spans.clear();
  Outcome outcome;
  bench.writer.submit(std::move(work), outcome.done());
  const WriteResult result = outcome.wait();
  CHECK(result.ok);
  CHECK(result.pages == 0);
}

TEST_CASE("pages of 1 GiB travel as WRITEs of 2 MiB, and count once") {
  constexpr uint64_t kHuge = uint64_t{1} << 30;
  Bench bench;
  bench.complete_at_once();
  auto bitmap = std::make_shared<memory::Bitmap>(4);
  bitmap->set_range(1, 2);
  WriteJob work = bench.job(bitmap, 0, 4);
  work.page_size = kHuge;
  work.spans[0].length = 4 * kHuge;
  Outcome outcome;
  bench.writer.submit(std::move(work), outcome.done());
  const WriteResult result = outcome.wait();
  CHECK(result.ok);
  CHECK(result.pages == 2);
  CHECK(result.bytes == 2 * kHuge);
  CHECK(bench.writer.counters()->pages_posted == 2);
  const auto posted = bench.lane(0).posted();
  REQUIRE(posted.size() == 2 * kHuge / kMaxWriteBytes);
  CHECK(result.writes == posted.size());
  for (size_t i = 0; i < posted.size(); ++i) {
    const uint64_t offset = kHuge + i * kMaxWriteBytes;
    CHECK(posted[i].length == kMaxWriteBytes);
    CHECK(posted[i].address == kLocal + offset);
    CHECK(posted[i].remote_address == kRemote + offset);
  }
  CHECK(posted.back().signaled);
}

TEST_CASE("a WRITE that a living queue pair refuses fails its job with the reason, and others go on") {
  for (const uint64_t pages : {1, 3}) {  // the refused one is the job's last, or not
    Bench bench(1);
    bench.complete_at_once();
    auto bitmap = std::make_shared<memory::Bitmap>(64);
    for (uint64_t i = 0; i < pages; ++i) bitmap->set_range(2 * i, 1);
    bench.lane(0).refuse("INVALID_ARGUMENT");
    Outcome refused, next;
    bench.writer.submit(bench.job(bitmap, 0, 64), refused.done());
    const WriteResult result = refused.wait();
    CHECK_FALSE(result.ok);
    REQUIRE(result.error);
    CHECK(result.error->code() == "INVALID_ARGUMENT");
    bench.lane(0).refuse(nullptr);
    bitmap->set_range(0, 64);
    bench.writer.submit(bench.job(bitmap, 0, 64), next.done());
    CHECK(next.wait().ok);
    CHECK(bench.writer.counters()->bytes_completed == 64 * kPage);
  }
}

TEST_CASE(
    "a batch of which some WRITEs were posted fails everything, and no memory is let go before the end") {
  Bench bench;
  auto bitmap = std::make_shared<memory::Bitmap>(64);
  const auto job = [&](uint64_t first, std::weak_ptr<int>& watch) {
    const auto owner = std::make_shared<int>(1);
    watch = owner;
    bitmap->set_range(first, 1);
    bitmap->set_range(first + 2, 1);
    WriteJob work = bench.job(bitmap, first, 16);
    work.keep_alive = owner;
    return work;
  };
  std::weak_ptr<int> first, second, third;
  Outcome under_way, torn, late;
  bench.writer.submit(job(0, first), under_way.done());
  bench.lane(0).wait_posted(2);
  bench.lane(0).settle();
  bench.lane(0).refuse("INVALID_ARGUMENT", 1);
  bench.writer.submit(job(16, second), torn.done());
  const WriteResult result = torn.wait();
  CHECK_FALSE(result.ok);
  REQUIRE(result.error);
  CHECK(result.error->code() == "INVALID_ARGUMENT");
  CHECK_FALSE(under_way.wait().ok);
  bench.lane(0).refuse(nullptr);
  bench.writer.submit(job(32, third), late.done());
  CHECK_FALSE(late.wait().ok);
  bench.lane(0).settle();
  CHECK(bench.lane(0).posted().size() == 3);
  CHECK_FALSE(first.expired());
  CHECK_FALSE(second.expired());
  bench.end();
  CHECK(first.expired());
  CHECK(second.expired());
  CHECK(torn.times() == 1);
}

TEST_CASE("a job writes the pages of its span and no others") {
  Bench bench;
  bench.complete_at_once();
  auto bitmap = std::make_shared<memory::Bitmap>(300);
  bitmap->set_range(0, 300);
  Outcome outcome;
  bench.writer.submit(bench.job(bitmap, 100, 50), outcome.done());
  CHECK(outcome.wait().pages == 50);
  CHECK(bitmap->count() == 250);
  CHECK(bitmap->test(99));
  CHECK(bitmap->test(150));
}

TEST_CASE("a job without a set bit is done without a WRITE") {
  Bench bench;
  Outcome outcome;
  bench.writer.submit(bench.job(std::make_shared<memory::Bitmap>(64), 0, 64), outcome.done());
  CHECK(outcome.wait().ok);
  CHECK(bench.lane(0).posted().empty());
}

TEST_CASE("random bitmaps: every set page is written once, from and to its own place") {
  std::mt19937 random(7);
  for (int round = 0; round < 20; ++round) {
    Bench bench;
    bench.complete_at_once();
    const uint64_t pages = 1 + random() % 3000;
    auto bitmap = std::make_shared<memory::Bitmap>(pages);
    std::vector<int> expected(pages, 0), written(pages, 0);
    for (uint64_t page = 0; page < pages; ++page) {
      if (random() % 3 == 0) continue;
      bitmap->set_range(page, 1);
      expected[page] = 1;
    }
    Outcome outcome;
    bench.writer.submit(bench.job(bitmap, 0, pages), outcome.done());
    REQUIRE(outcome.wait().ok);
    for (const auto& request : bench.lane(0).posted()) {
      CHECK(request.address - kLocal == request.remote_address - kRemote);
      for (uint64_t at = 0; at < request.length; at += kPage)
        ++written[(request.address - kLocal + at) / kPage];
    }
    CHECK(written == expected);
  }
}

// As a hint does that frees them.
TEST_CASE("pages that somebody clears while they are taken leave neither an empty WRITE nor an empty batch") {
  constexpr uint64_t kPages = 64;
  constexpr uint64_t kJobs = 20'000;
  Bench bench;
  bench.complete_at_once();
  auto bitmap = std::make_shared<memory::Bitmap>(kPages);
  std::jthread frees([&](const std::stop_token& over) {
    std::mt19937 random(11);
    while (!over.stop_requested()) bitmap->clear_range(random() % kPages, 1);
  });
  uint64_t pages = 0;
  uint64_t wrong = 0;
  for (uint64_t at = 0; at < kJobs; ++at) {
    bitmap->set_range(at % kPages, 1);
    Outcome outcome;
    bench.writer.submit(bench.job(bitmap, 0, kPages), outcome.done());
    const WriteResult result = outcome.wait();
    if (!result.ok || result.bytes != result.pages * kPage) ++wrong;
    pages += result.pages;
  }
  frees = {};
  uint64_t written = 0;
  for (const SendWorkRequest& request : bench.lane(0).posted()) {
    if (request.length == 0) ++wrong;
    written += request.length;
  }
  CHECK(wrong == 0);
  CHECK(written == pages * kPage);
  // Some were cleared before they were taken, and some were not: else this has shown nothing.
  CHECK(pages > 0);
  CHECK(pages < kJobs);
}

TEST_CASE("no more than 16 MiB and no more requests than allowed are under way") {
  Bench bench(4);
  auto bitmap = std::make_shared<memory::Bitmap>(64);
  for (uint64_t page = 0; page < 64; page += 2) bitmap->set_range(page, 1);
  Outcome outcome;
  bench.writer.submit(bench.job(bitmap, 0, 64), outcome.done());
  bench.lane(0).wait_posted(4);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));  // time to go too far
  CHECK(bench.lane(0).posted().size() == 4);
  CHECK(bench.lane(0).posted()[3].signaled);  // or nothing would ever make room
  for (size_t done = 0; done < 32;) {
    bench.lane(0).wait_posted(std::min<size_t>(32, done + 4));
    const auto posted = bench.lane(0).posted();
    for (; done < posted.size(); ++done) {
      if (posted[done].signaled) bench.lane(0).complete(posted[done], fabric::Status::kSuccess);
    }
  }
  CHECK(outcome.wait().ok);

  Bench large;
  auto all = std::make_shared<memory::Bitmap>(16384);
  all->set_range(0, 16384);
  Outcome second;
  large.writer.submit(large.job(all, 0, 16384), second.done());
  large.lane(0).wait_posted(kMaxOutstandingBytes / kMaxWriteBytes);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  CHECK(large.lane(0).posted().size() == kMaxOutstandingBytes / kMaxWriteBytes);
}

TEST_CASE("several queue pairs move every page once, from and to its own place, and each carries its part") {
  for (const size_t count : {2, 4}) {
    Bench bench(500, count);
    constexpr uint64_t kPages = 32768;  // 128 MiB
    auto bitmap = std::make_shared<memory::Bitmap>(kPages);
    std::vector<int> expected(kPages, 0), written(kPages, 0);
    std::mt19937 random(static_cast<unsigned>(count));
    for (uint64_t page = 0; page < kPages; ++page) {
      if (random() % 50 == 0) continue;
      bitmap->set_range(page, 1);
      expected[page] = 1;
    }
    Outcome first, second;
    bench.writer.submit(bench.job(bitmap, 0, kPages / 2), first.done());
    bench.writer.submit(bench.job(bitmap, kPages / 2, kPages / 2), second.done());
    // Each has its share under way before any has completed.
    for (size_t i = 0; i < count; ++i) bench.lane(i).wait_posted(1);
    bench.complete_at_once();
    for (size_t i = 0; i < count; ++i) {
      for (const auto& request : bench.lane(i).posted()) {
        if (request.signaled) bench.lane(i).complete(request, fabric::Status::kSuccess);
      }
    }
    CHECK(first.wait().ok);
    CHECK(second.wait().ok);
    for (size_t i = 0; i < count; ++i) {
      for (const auto& request : bench.lane(i).posted()) {
        CHECK(request.address - kLocal == request.remote_address - kRemote);
        for (uint64_t at = 0; at < request.length; at += kPage)
          ++written[(request.address - kLocal + at) / kPage];
      }
    }
    CHECK(written == expected);
    CHECK(bench.writer.counters()->bytes_completed ==
          kPage * static_cast<uint64_t>(std::count(expected.begin(), expected.end(), 1)));
  }
}

TEST_CASE("several queue pairs have no more than 16 MiB under way together") {
  Bench bench(500, 4);
  auto bitmap = std::make_shared<memory::Bitmap>(16384);
  bitmap->set_range(0, 16384);
  Outcome outcome;
  bench.writer.submit(bench.job(bitmap, 0, 16384), outcome.done());
  for (size_t i = 0; i < 4; ++i) bench.lane(i).wait_posted(1);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));  // time to go too far
  uint64_t under_way = 0;
  for (size_t i = 0; i < 4; ++i) {
    for (const auto& request : bench.lane(i).posted()) under_way += request.length;
  }
  CHECK(under_way <= kMaxOutstandingBytes);
  CHECK(under_way > kMaxOutstandingBytes / 2);
}

TEST_CASE("a queue pair that is slow keeps none of the others waiting") {
  Bench bench(500, 2);
  auto bitmap = std::make_shared<memory::Bitmap>(16384);
  bitmap->set_range(0, 16384);
  Outcome outcome;
  bench.writer.submit(bench.job(bitmap, 0, 16384), outcome.done());
  for (const size_t i : {0, 1}) bench.lane(i).wait_posted(1);
  bench.lane(1).settle();
  bench.lane(1).complete_at_once = true;
  for (const auto& request : bench.lane(1).posted()) {
    if (request.signaled) bench.lane(1).complete(request, fabric::Status::kSuccess);
  }
  const auto all_but = [&](uint64_t left) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (bitmap->count() > left && std::chrono::steady_clock::now() < deadline)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return bitmap->count() <= left;
  };
  CHECK(all_but(0));
  bench.lane(1).settle();
  CHECK(outcome.times() == 0);  // it still owes its share
  bench.lane(0).complete_at_once = true;
  for (const auto& request : bench.lane(0).posted()) {
    if (request.signaled) bench.lane(0).complete(request, fabric::Status::kSuccess);
  }
  CHECK(outcome.wait().ok);
}

TEST_CASE("a failed WRITE on one queue pair fails the jobs of all") {
  Bench bench(500, 2);
  auto bitmap = std::make_shared<memory::Bitmap>(16384);
  bitmap->set_range(0, 16384);
  Outcome first, second;
  bench.writer.submit(bench.job(bitmap, 0, 8192), first.done());
  bench.writer.submit(bench.job(bitmap, 8192, 8192), second.done());
  bench.lane(1).wait_posted(1);
  bench.lane(1).complete(bench.lane(1).posted()[0], fabric::Status::kFlushed);
  CHECK_FALSE(first.wait().ok);
  CHECK_FALSE(second.wait().ok);
}

TEST_CASE("a failed WRITE fails its job and every later one") {
  Bench bench;
  auto bitmap = std::make_shared<memory::Bitmap>(64);
  bitmap->set_range(0, 64);
  Outcome first, second;
  bench.writer.submit(bench.job(bitmap, 0, 32), first.done());
  bench.lane(0).wait_posted(1);
  bench.lane(0).complete(bench.lane(0).posted()[0], fabric::Status::kError);
  CHECK_FALSE(first.wait().ok);
  bench.writer.submit(bench.job(bitmap, 32, 32), second.done());
  CHECK_FALSE(second.wait().ok);
}

TEST_CASE("the end of the connection fails what is queued and what is under way, each once") {
  Bench bench(2);
  auto bitmap = std::make_shared<memory::Bitmap>(1000);
  for (uint64_t page = 0; page < 1000; page += 2) bitmap->set_range(page, 1);
  std::vector<Outcome> outcomes(5);
  for (size_t i = 0; i < outcomes.size(); ++i) {
    bench.writer.submit(bench.job(bitmap, i * 200, 200), outcomes[i].done());
  }
  bench.lane(0).wait_posted(2);
  bench.writer.connection_ended();
  for (auto& outcome : outcomes) CHECK_FALSE(outcome.wait().ok);
  bench.end();
  for (auto& outcome : outcomes) CHECK(outcome.times() == 1);
}

TEST_CASE("a queue pair that refuses fails the job, and the memory is held until it has been closed") {
  Bench bench;
  bench.lane(0).refuse("CONNECTION_CLOSED");
  auto bitmap = std::make_shared<memory::Bitmap>(64);
  bitmap->set_range(0, 64);
  auto owner = std::make_shared<int>(1);
  std::weak_ptr<int> watch = owner;
  WriteJob work = bench.job(bitmap, 0, 64);
  work.keep_alive = std::move(owner);
  Outcome outcome;
  bench.writer.submit(std::move(work), outcome.done());
  const WriteResult result = outcome.wait();
  CHECK_FALSE(result.ok);
  CHECK_FALSE(result.error);  // the connection's end tells why
  CHECK_FALSE(watch.expired());
  bench.end();
  CHECK(watch.expired());
}

TEST_CASE("a bandwidth limit spreads WRITEs evenly") {
  Bench bench;
  bench.complete_at_once();
  bench.writer.set_max_bandwidth(32 * 1024 * 1024);
  auto bitmap = std::make_shared<memory::Bitmap>(1024);
  bitmap->set_range(0, 1024);
  Outcome outcome;
  const auto start = std::chrono::steady_clock::now();
  bench.writer.submit(bench.job(bitmap, 0, 1024), outcome.done());
  CHECK(outcome.wait().ok);
  // 4 MiB at 32 MiB/s are 125 ms; the first slice goes at once. A slow machine only takes longer.
  CHECK(std::chrono::steady_clock::now() - start >= std::chrono::milliseconds(100));
  for (const auto& request : bench.lane(0).posted()) CHECK(request.length <= 32 * 1024 * 1024 / 100 + kPage);
}

TEST_CASE("a bandwidth limit holds over several queue pairs together") {
  Bench bench(500, 2);
  bench.complete_at_once();
  bench.writer.set_max_bandwidth(32 * 1024 * 1024);
  auto bitmap = std::make_shared<memory::Bitmap>(1024);
  bitmap->set_range(0, 1024);
  Outcome outcome;
  const auto start = std::chrono::steady_clock::now();
  bench.writer.submit(bench.job(bitmap, 0, 1024), outcome.done());
  CHECK(outcome.wait().ok);
  CHECK(std::chrono::steady_clock::now() - start >= std::chrono::milliseconds(100));
  // They take turns.
  CHECK(bench.lane(0).posted().size() > 2);
  CHECK(bench.lane(1).posted().size() > 2);
}

TEST_CASE("a limit that is taken away holds nothing back any more") {
  Bench bench(500, 2);
  bench.complete_at_once();
  bench.writer.set_max_bandwidth(1);  // nothing more for hours after the first
  auto bitmap = std::make_shared<memory::Bitmap>(1024);
  bitmap->set_range(0, 1024);
  Outcome outcome;
  bench.writer.submit(bench.job(bitmap, 0, 1024), outcome.done());
  const auto posted = [&] { return bench.lane(0).posted().size() + bench.lane(1).posted().size(); };
  while (posted() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  bench.lane(0).settle();
  bench.lane(1).settle();
  CHECK(posted() == 1);
  bench.writer.set_max_bandwidth(0);
  CHECK(outcome.wait().ok);
}

// What the link could do shows in the time on the wire, however slowly a limit lets WRITEs go.
TEST_CASE("time on the wire is that of WRITEs under way, and the limit's pauses are told apart") {
  Bench bench;
  bench.complete_at_once();
  bench.writer.set_max_bandwidth(32 * 1024 * 1024);
  auto bitmap = std::make_shared<memory::Bitmap>(1024);
  for (uint64_t page = 0; page < 1024; page += 2) bitmap->set_range(page, 1);  // 512 WRITEs, many to a signal
  Outcome outcome;
  const auto start = std::chrono::steady_clock::now();
  bench.writer.submit(bench.job(bitmap, 0, 1024), outcome.done());
  REQUIRE(outcome.wait().ok);
  const uint64_t elapsed = static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - start).count());
  const uint64_t wire = bench.writer.counters()->wire_ns, held = bench.writer.counters()->held_ns;
  // 2 MiB at 32 MiB/s are 62 ms; each is complete as soon as it is posted.
  CHECK(held >= 30'000'000);
  CHECK(wire < held);
  CHECK(wire + held <= elapsed);
}

TEST_CASE("a WRITE is on the wire until it has completed") {
  Bench bench;
  auto bitmap = std::make_shared<memory::Bitmap>(1);
  bitmap->set_range(0, 1);
  Outcome outcome;
  bench.writer.submit(bench.job(bitmap, 0, 1), outcome.done());
  bench.lane(0).wait_posted(1);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  bench.lane(0).complete(bench.lane(0).posted()[0], fabric::Status::kSuccess);
  REQUIRE(outcome.wait().ok);
  const uint64_t wire = bench.writer.counters()->wire_ns;
  CHECK(wire >= 20'000'000);
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  CHECK(bench.writer.counters()->wire_ns == wire);
  CHECK(bench.writer.counters()->held_ns == 0);
}

TEST_CASE("ends at any moment: no job is lost or ended twice") {
  std::mt19937 random(11);
  for (int round = 0; round < 60; ++round) {
    Bench bench(8, 1 + round % 3);
    bench.complete_at_once();
    auto bitmap = std::make_shared<memory::Bitmap>(4000);
    for (uint64_t page = 0; page < 4000; page += 1 + random() % 3) bitmap->set_range(page, 1);
    std::vector<Outcome> outcomes(20);
    const auto pause = std::chrono::microseconds(random() % 400);
    std::thread ender([&] {
      std::this_thread::sleep_for(pause);
      if (round % 2 == 0) bench.writer.cancel();
      bench.writer.connection_ended();
    });
    for (size_t i = 0; i < outcomes.size(); ++i)
      bench.writer.submit(bench.job(bitmap, i * 200, 200), outcomes[i].done());
    ender.join();
    bench.end();
    for (auto& outcome : outcomes) CHECK(outcome.times() == 1);
  }
}

// Real memory for jobs with digests, which read it.
struct StagedBench {
  explicit StagedBench(uint64_t pages, size_t lanes = 1)
      : mapping(memory::Mapping::memfd("staged", pages * kPage)),
        bitmap(std::make_shared<memory::Bitmap>(pages)),
        digests(std::make_shared<dirty::PageDigests>(pages, kPage)),
        bench(500, lanes) {
    for (uint64_t page = 0; page < pages; ++page)
      mapping->data()[page * kPage] = static_cast<uint8_t>(page % 251 + 1);
  }
  WriteJob job() {
    WriteJob work = bench.job(bitmap, 0, bitmap->pages());
    work.local_address = mapping->address();
    work.digests = digests;
    return work;
  }
  // What the WRITE carries is a copy of its page, at its own remote place.
  bool carries_copy(const SendWorkRequest& request) const {
    const uint64_t offset = request.remote_address - kRemote;
    return request.lkey == test::ScriptedDomain::kKey && request.address != mapping->address() + offset &&
           std::memcmp(reinterpret_cast<const void*>(request.address), mapping->data() + offset,
                       request.length) == 0;
  }

  std::shared_ptr<memory::Mapping> mapping;
  std::shared_ptr<memory::Bitmap> bitmap;
  std::shared_ptr<dirty::PageDigests> digests;
  Bench bench;
};

TEST_CASE("a job without digests is written from its own memory and registers nothing") {
  Bench bench;
  bench.complete_at_once();
  auto bitmap = std::make_shared<memory::Bitmap>(64);
  bitmap->set_range(0, 64);
  Outcome outcome;
  bench.writer.submit(bench.job(bitmap, 0, 64), outcome.done());
  CHECK(outcome.wait().ok);
  CHECK(bench.domain.registrations == 0);
}

TEST_CASE("a job with digests is written from copies, and each page's digest is that of its copy") {
  StagedBench staged(512);
  staged.bench.complete_at_once();
  staged.bitmap->set_range(3, 100);
  staged.bitmap->set_range(500, 12);
  for (int round = 0; round < 2; ++round) {
    Outcome outcome;
    staged.bench.writer.submit(staged.job(), outcome.done());
    CHECK(outcome.wait().ok);
  }
  CHECK(staged.bench.domain.registrations == 1);
  REQUIRE(staged.bench.lane(0).posted().size() == 2);
  for (const auto& request : staged.bench.lane(0).posted()) CHECK(staged.carries_copy(request));
  for (uint64_t page = 0; page < 512; ++page) {
    const bool sent = (page >= 3 && page < 103) || page >= 500;
    CHECK(staged.digests->is_current(page, staged.mapping->data() + page * kPage) == sent);
  }
}

TEST_CASE("copies under way never share memory, also where the ring wraps") {
  StagedBench staged(16384);
  // 1 MiB, then 2 MiB each: the ring's end does not fit a WRITE.
  staged.bitmap->set_range(0, 256);
  staged.bitmap->set_range(512, 16384 - 512);
  Outcome outcome;
  staged.bench.writer.submit(staged.job(), outcome.done());
  size_t completed = 0;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(120);
  while (outcome.times() == 0) {
    REQUIRE(std::chrono::steady_clock::now() < deadline);
    const size_t before = staged.bench.lane(0).posted().size();
    std::this_thread::sleep_for(std::chrono::milliseconds(5));  // time to go too far
    const auto posted = staged.bench.lane(0).posted();
    for (size_t i = completed; i < posted.size(); ++i) {
      CHECK(staged.carries_copy(posted[i]));
      for (size_t j = completed; j < i; ++j) {
        CHECK((posted[i].address >= posted[j].address + posted[j].length ||
               posted[j].address >= posted[i].address + posted[i].length));
      }
    }
    if (posted.size() != before) continue;
    size_t next = completed;
    while (next < posted.size() && !posted[next].signaled) ++next;
    if (next == posted.size()) continue;  // one that makes room is still to be posted
    staged.bench.lane(0).complete(posted[next], fabric::Status::kSuccess);
    completed = next + 1;
  }
  CHECK(outcome.wait().pages == 16384 - 256);
}

TEST_CASE("a job that cannot have copies fails with the reason, and others go on") {
  StagedBench staged(64);
  staged.bench.complete_at_once();
  staged.bench.domain.refuse_registration = true;
  staged.bitmap->set_range(0, 64);
  Outcome refused, plain, again;
  staged.bench.writer.submit(staged.job(), refused.done());
  const WriteResult result = refused.wait();
  CHECK_FALSE(result.ok);
  REQUIRE(result.error);
  CHECK(result.error->code() == "LOCKED_MEMORY_LIMIT");
  CHECK(staged.bitmap->count() == 64);
  WriteJob work = staged.job();
  work.digests = nullptr;
  work.spans[0].length = 32 * kPage;
  staged.bench.writer.submit(std::move(work), plain.done());
  CHECK(plain.wait().ok);
  staged.bench.domain.refuse_registration = false;
  staged.bench.writer.submit(staged.job(), again.done());
  CHECK(again.wait().pages == 32);
}

TEST_CASE("two queue pairs that have no copies for the same job: what is told of it stays as it is") {
  StagedBench staged(64, 2);
  staged.bitmap->set_range(0, 64);
  std::mutex mutex;
  std::condition_variable changed;
  int attempts = 0;
  bool telling = false;
  const auto wait = [&](std::unique_lock<std::mutex>& lock, auto until) {
    CHECK(changed.wait_for(lock, std::chrono::seconds(60), until));
  };
  staged.bench.domain.refuse_registration = true;
  staged.bench.domain.registering = [&] {
    std::unique_lock lock(mutex);
    const bool first = ++attempts == 1;
    changed.notify_all();
    wait(lock, [&] { return first ? attempts == 2 : telling; });
  };
  Outcome outcome;
  staged.bench.writer.submit(staged.job(), [&](const WriteResult& result) {
    const auto before = result.error;
    {
      std::lock_guard lock(mutex);
      telling = true;
      changed.notify_all();
    }
    for (size_t i = 0; i < 2; ++i) {
      if (!staged.bench.lane(i).is_here()) staged.bench.lane(i).settle();
    }
    CHECK(result.error == before);
    outcome.done()(result);
  });
  const WriteResult result = outcome.wait();
  CHECK(attempts == 2);
  REQUIRE(result.error);
  CHECK(result.error->code() == "LOCKED_MEMORY_LIMIT");
  staged.bench.end();
  CHECK(outcome.times() == 1);
}

TEST_CASE("a job whose pages cannot be copied fails with the reason, and others go on") {
  StagedBench staged(64);
  staged.bench.complete_at_once();
  test::CutFile file(64);
  file.cut(16);
  // More than once around the ring of copies, which are not lost with their jobs.
  for (int round = 0; round < 100; ++round) {
    staged.bitmap->set_range(0, 64);
    WriteJob unreadable = staged.job();
    unreadable.local_address = file.address();
    Outcome outcome;
    staged.bench.writer.submit(std::move(unreadable), outcome.done());
    const WriteResult result = outcome.wait();
    CHECK_FALSE(result.ok);
    REQUIRE(result.error);
    CHECK(result.error->code() == "IO_ERROR");
  }
  staged.bitmap->set_range(0, 64);
  Outcome again;
  staged.bench.writer.submit(staged.job(), again.done());
  CHECK(again.wait().pages == 64);
}

TEST_CASE("a cancel ends a job that waits for copies to be free") {
  StagedBench staged(16384);
  staged.bitmap->set_range(0, 16384);
  Outcome outcome;
  staged.bench.writer.submit(staged.job(), outcome.done());
  staged.bench.lane(0).wait_posted(kMaxOutstandingBytes / kMaxWriteBytes);
  staged.bench.writer.cancel();
  CHECK_FALSE(outcome.wait().ok);
}

}  // namespace
}  // namespace rdma_migrate::engine
