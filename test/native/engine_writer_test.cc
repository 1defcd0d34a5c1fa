// The bulk writer over a connection that does what the test says: what is posted, in which order, and what
// becomes of jobs.
#include <doctest/doctest.h>

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

namespace rdma_migrate::engine {
namespace {

using fabric::Completion;
using fabric::SendWorkRequest;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kLocal = 0x10000000;
constexpr uint64_t kRemote = 0x7f0000000000;

constexpr uint32_t kStagingKey = 99;

class ScriptedRegion final : public fabric::MemoryRegion {
 public:
  ScriptedRegion(uint64_t address, uint64_t length) : address_(address), length_(length) {}
  uint64_t address() const override { return address_; }
  uint64_t length() const override { return length_; }
  uint32_t lkey() const override { return kStagingKey; }
  uint32_t rkey() const override { return 0; }

 private:
  uint64_t address_, length_;
};

// Takes what is posted; completes it when it is told to, or at once.
class ScriptedConnection final : public fabric::Connection {
 public:
  bool post_send(const SendWorkRequest& request) override {
    {
      std::lock_guard lock(mutex_);
      if (refusal_ != nullptr) throw Error(refusal_, "scripted");
      posted_.push_back(request);
    }
    changed_.notify_all();
    if (complete_at_once && request.signaled) complete(request, fabric::Status::kSuccess);
    return true;
  }
  void complete(const SendWorkRequest& request, fabric::Status status) {
    writer->completed(Completion{request.wr_id, request.opcode, status, 0});
  }
  std::vector<SendWorkRequest> posted() {
    std::lock_guard lock(mutex_);
    return posted_;
  }
  void wait_posted(size_t count) {
    std::unique_lock lock(mutex_);
    REQUIRE(changed_.wait_for(lock, std::chrono::seconds(30), [&] { return posted_.size() >= count; }));
  }
  // With this code; nullptr: no more.
  void refuse(const char* code) {
    std::lock_guard lock(mutex_);
    refusal_ = code;
  }

  std::unique_ptr<fabric::MemoryRegion> register_memory(uint64_t address, uint64_t length,
                                                        unsigned) override {
    ++registrations;
    if (refuse_registration) throw Error("LOCKED_MEMORY_LIMIT", "scripted");
    return std::make_unique<ScriptedRegion>(address, length);
  }
  void revoke_remote_access() override {}
  bool pins_memory() const override { return false; }
  void connect(std::span<const uint8_t>) override {}
  void accept(std::span<const uint8_t>) override {}
  void reject(std::span<const uint8_t>) override {}
  bool post_recv(const fabric::RecvWorkRequest&) override { return true; }
  void disconnect() override {}
  void close() override {}
  fabric::ConnectionInfo info() const override { return {}; }
  const fabric::Counters& counters() const override { return counters_; }

  BulkWriter* writer = nullptr;
  std::atomic<bool> complete_at_once{false};
  std::atomic<int> registrations{0};
  std::atomic<bool> refuse_registration{false};

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<SendWorkRequest> posted_;
  const char* refusal_ = nullptr;
  fabric::Counters counters_;
};

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

struct Bench {
  explicit Bench(uint32_t max_outstanding = 500) : writer(max_outstanding) {
    connection.writer = &writer;
    writer.start(connection);
  }
  ~Bench() {
    writer.cancel();
    writer.connection_ended();
    writer.join();
  }
  WriteJob job(std::shared_ptr<memory::Bitmap> bitmap, uint64_t first_page, uint64_t pages) {
    WriteJob work;
    work.local_address = kLocal + first_page * kPage;
    work.remote_address = kRemote + first_page * kPage;
    work.length = pages * kPage;
    work.lkey = 11;
    work.rkey = 22;
    work.bitmap = std::move(bitmap);
    work.first_page = first_page;
    return work;
  }

  ScriptedConnection connection;
  BulkWriter writer;
};

TEST_CASE("neighbouring pages travel as one WRITE of at most 2 MiB, and their bits are taken") {
  Bench bench;
  bench.connection.complete_at_once = true;
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
  const auto posted = bench.connection.posted();
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

TEST_CASE("pages of 1 GiB travel as WRITEs of 2 MiB, and count once") {
  constexpr uint64_t kHuge = uint64_t{1} << 30;
  Bench bench;
  bench.connection.complete_at_once = true;
  auto bitmap = std::make_shared<memory::Bitmap>(4);
  bitmap->set_range(1, 2);
  WriteJob work = bench.job(bitmap, 0, 4);
  work.page_size = kHuge;
  work.length = 4 * kHuge;
  Outcome outcome;
  bench.writer.submit(std::move(work), outcome.done());
  const WriteResult result = outcome.wait();
  CHECK(result.ok);
  CHECK(result.pages == 2);
  CHECK(result.bytes == 2 * kHuge);
  CHECK(bench.writer.counters()->pages_posted == 2);
  const auto posted = bench.connection.posted();
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

TEST_CASE("a WRITE that a living connection refuses fails its job with the reason, and others go on") {
  for (const uint64_t pages : {1, 3}) {  // the refused one is the job's last, or not
    Bench bench(1);
    bench.connection.complete_at_once = true;
    auto bitmap = std::make_shared<memory::Bitmap>(64);
    for (uint64_t i = 0; i < pages; ++i) bitmap->set_range(2 * i, 1);
    bench.connection.refuse("INVALID_ARGUMENT");
    Outcome refused, next;
    bench.writer.submit(bench.job(bitmap, 0, 64), refused.done());
    const WriteResult result = refused.wait();
    CHECK_FALSE(result.ok);
    REQUIRE(result.error);
    CHECK(result.error->code() == "INVALID_ARGUMENT");
    bench.connection.refuse(nullptr);
    bitmap->set_range(0, 64);
    bench.writer.submit(bench.job(bitmap, 0, 64), next.done());
    CHECK(next.wait().ok);
    CHECK(bench.writer.counters()->bytes_completed == 64 * kPage);
  }
}

TEST_CASE("a job writes the pages of its span and no others") {
  Bench bench;
  bench.connection.complete_at_once = true;
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
  CHECK(bench.connection.posted().empty());
}

TEST_CASE("random bitmaps: every set page is written once, from and to its own place") {
  std::mt19937 random(7);
  for (int round = 0; round < 20; ++round) {
    Bench bench;
    bench.connection.complete_at_once = true;
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
    for (const auto& request : bench.connection.posted()) {
      CHECK(request.address - kLocal == request.remote_address - kRemote);
      for (uint64_t at = 0; at < request.length; at += kPage)
        ++written[(request.address - kLocal + at) / kPage];
    }
    CHECK(written == expected);
  }
}

TEST_CASE("no more than 16 MiB and no more requests than allowed are under way") {
  Bench bench(4);
  auto bitmap = std::make_shared<memory::Bitmap>(64);
  for (uint64_t page = 0; page < 64; page += 2) bitmap->set_range(page, 1);
  Outcome outcome;
  bench.writer.submit(bench.job(bitmap, 0, 64), outcome.done());
  bench.connection.wait_posted(4);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));  // time to go too far
  CHECK(bench.connection.posted().size() == 4);
  CHECK(bench.connection.posted()[3].signaled);  // or nothing would ever make room
  for (size_t done = 0; done < 32;) {
    bench.connection.wait_posted(std::min<size_t>(32, done + 4));
    const auto posted = bench.connection.posted();
    for (; done < posted.size(); ++done) {
      if (posted[done].signaled) bench.connection.complete(posted[done], fabric::Status::kSuccess);
    }
  }
  CHECK(outcome.wait().ok);

  Bench large;
  auto all = std::make_shared<memory::Bitmap>(16384);
  all->set_range(0, 16384);
  Outcome second;
  large.writer.submit(large.job(all, 0, 16384), second.done());
  large.connection.wait_posted(kMaxOutstandingBytes / kMaxWriteBytes);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  CHECK(large.connection.posted().size() == kMaxOutstandingBytes / kMaxWriteBytes);
}

TEST_CASE("a failed WRITE fails its job and every later one") {
  Bench bench;
  auto bitmap = std::make_shared<memory::Bitmap>(64);
  bitmap->set_range(0, 64);
  Outcome first, second;
  bench.writer.submit(bench.job(bitmap, 0, 32), first.done());
  bench.connection.wait_posted(1);
  bench.connection.complete(bench.connection.posted()[0], fabric::Status::kError);
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
  bench.connection.wait_posted(2);
  bench.writer.connection_ended();
  for (auto& outcome : outcomes) CHECK_FALSE(outcome.wait().ok);
  bench.writer.join();
  for (auto& outcome : outcomes) CHECK(outcome.times() == 1);
}

TEST_CASE(
    "a connection that refuses fails the job, and the memory is held until the connection has been closed") {
  Bench bench;
  bench.connection.refuse("CONNECTION_CLOSED");
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
  bench.writer.cancel();
  bench.writer.connection_ended();
  bench.writer.join();
  CHECK(watch.expired());
}

TEST_CASE("a bandwidth limit spreads WRITEs evenly") {
  Bench bench;
  bench.connection.complete_at_once = true;
  bench.writer.set_max_bandwidth(32 * 1024 * 1024);
  auto bitmap = std::make_shared<memory::Bitmap>(1024);
  bitmap->set_range(0, 1024);
  Outcome outcome;
  const auto start = std::chrono::steady_clock::now();
  bench.writer.submit(bench.job(bitmap, 0, 1024), outcome.done());
  CHECK(outcome.wait().ok);
  // 4 MiB at 32 MiB/s are 125 ms; the first slice goes at once. A slow machine only takes longer.
  CHECK(std::chrono::steady_clock::now() - start >= std::chrono::milliseconds(100));
  for (const auto& request : bench.connection.posted())
    CHECK(request.length <= 32 * 1024 * 1024 / 100 + kPage);
}

// What the link could do shows in the time on the wire, however slowly a limit lets WRITEs go.
TEST_CASE("time on the wire is that of WRITEs under way, and the limit's pauses are told apart") {
  Bench bench;
  bench.connection.complete_at_once = true;
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
  bench.connection.wait_posted(1);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  bench.connection.complete(bench.connection.posted()[0], fabric::Status::kSuccess);
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
    Bench bench(8);
    bench.connection.complete_at_once = true;
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
    bench.writer.join();
    for (auto& outcome : outcomes) CHECK(outcome.times() == 1);
  }
}

// Real memory for jobs with digests, which read it.
struct StagedBench {
  explicit StagedBench(uint64_t pages)
      : mapping(memory::Mapping::memfd("staged", pages * kPage)),
        bitmap(std::make_shared<memory::Bitmap>(pages)),
        digests(std::make_shared<dirty::PageDigests>(pages, kPage)) {
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
    return request.lkey == kStagingKey && request.address != mapping->address() + offset &&
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
  bench.connection.complete_at_once = true;
  auto bitmap = std::make_shared<memory::Bitmap>(64);
  bitmap->set_range(0, 64);
  Outcome outcome;
  bench.writer.submit(bench.job(bitmap, 0, 64), outcome.done());
  CHECK(outcome.wait().ok);
  CHECK(bench.connection.registrations == 0);
}

TEST_CASE("a job with digests is written from copies, and each page's digest is that of its copy") {
  StagedBench staged(512);
  staged.bench.connection.complete_at_once = true;
  staged.bitmap->set_range(3, 100);
  staged.bitmap->set_range(500, 12);
  for (int round = 0; round < 2; ++round) {
    Outcome outcome;
    staged.bench.writer.submit(staged.job(), outcome.done());
    CHECK(outcome.wait().ok);
  }
  CHECK(staged.bench.connection.registrations == 1);
  REQUIRE(staged.bench.connection.posted().size() == 2);
  for (const auto& request : staged.bench.connection.posted()) CHECK(staged.carries_copy(request));
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
    const size_t before = staged.bench.connection.posted().size();
    std::this_thread::sleep_for(std::chrono::milliseconds(5));  // time to go too far
    const auto posted = staged.bench.connection.posted();
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
    staged.bench.connection.complete(posted[next], fabric::Status::kSuccess);
    completed = next + 1;
  }
  CHECK(outcome.wait().pages == 16384 - 256);
}

TEST_CASE("a job that cannot have copies fails with the reason, and others go on") {
  StagedBench staged(64);
  staged.bench.connection.complete_at_once = true;
  staged.bench.connection.refuse_registration = true;
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
  work.length = 32 * kPage;
  staged.bench.writer.submit(std::move(work), plain.done());
  CHECK(plain.wait().ok);
  staged.bench.connection.refuse_registration = false;
  staged.bench.writer.submit(staged.job(), again.done());
  CHECK(again.wait().pages == 32);
}

TEST_CASE("a job whose pages cannot be copied fails with the reason, and others go on") {
  StagedBench staged(64);
  staged.bench.connection.complete_at_once = true;
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
  staged.bench.connection.wait_posted(Staging::kBytes / kMaxWriteBytes);
  staged.bench.writer.cancel();
  CHECK_FALSE(outcome.wait().ok);
}

}  // namespace
}  // namespace rdma_migrate::engine
