#include <doctest/doctest.h>
#include <fcntl.h>

#include <set>
#include <thread>

#include "dirty/hash.h"
#include "dirty_support.h"

using namespace dirty_test;
using rdma_migrate::dirty::HashTracker;
using rdma_migrate::dirty::PageDigest;
using rdma_migrate::dirty::PageDigests;
using rdma_migrate::dirty::PageHash;

namespace {

struct alignas(64) Page {
  uint8_t bytes[kPage] = {};
};

// A peer that gets copies by hand: what the engine does, without a wire.
class CopyingPeer {
 public:
  explicit CopyingPeer(HashTracker& tracker, std::shared_ptr<Mapping> mapping)
      : tracker_(tracker), mapping_(std::move(mapping)), copy_(Mapping::memfd("peer", mapping_->length())) {}
  void send(uint64_t page) {
    uint8_t* to = copy_->data() + page * mapping_->page_size();
    for (uint64_t byte = 0; byte < mapping_->page_size(); byte += 8) {
      store(to + byte, load(mapping_->data() + page * mapping_->page_size() + byte));
    }
    tracker_.sent()[0]->note(page, to, mapping_->page_size());
  }

 private:
  HashTracker& tracker_;
  std::shared_ptr<Mapping> mapping_;
  std::shared_ptr<Mapping> copy_;
};

uint64_t collect(HashTracker& tracker, BitmapList& bitmaps) {
  for (auto& bitmap : bitmaps) bitmap->clear_range(0, bitmap->pages());
  return tracker.collect(bitmaps);
}

}  // namespace

TEST_CASE("every implementation of the page hash gives the same, and any change another digest") {
  std::mt19937_64 random(1);
  const PageHash hash;
  size_t count = 0;
  const auto* scans = PageHash::scans(&count);
  std::vector<Page> pages(4);
  memory_test::fill_random(pages[0].bytes, sizeof(Page) * pages.size(), random);
  for (const size_t length : {kPage, 4 * kPage}) {
    const PageDigest digest = hash.digest(pages[0].bytes, length);
    for (size_t i = 0; i < count; ++i)
      CHECK(hash.digest_with(scans[i].scan, pages[0].bytes, length) == digest);
    for (int i = 0; i < 2000; ++i) {
      uint8_t& byte = pages[0].bytes[random() % length];
      const auto bit = static_cast<uint8_t>(1 << random() % 8);
      byte ^= bit;
      CHECK_FALSE(hash.digest(pages[0].bytes, length) == digest);
      byte ^= bit;
    }
  }
}

TEST_CASE("moved words, swapped chunks and nearly empty pages have digests of their own") {
  const PageHash hash;
  std::set<std::pair<uint64_t, uint64_t>> seen;
  std::vector<Page> pages(2);
  for (size_t at = 0; at < 2 * kPage; at += 8) {
    for (const uint64_t value : {uint64_t{1}, uint64_t{1} << 32, uint64_t{1} << 63, ~uint64_t{0}}) {
      store(pages[0].bytes + at, value);
      const PageDigest digest = hash.digest(pages[0].bytes, 2 * kPage);
      CHECK_FALSE(digest == PageDigest{});
      CHECK(seen.insert({digest.low, digest.high}).second);
      store(pages[0].bytes + at, 0);
    }
  }
  CHECK(hash.digest(pages[0].bytes, 2 * kPage) == PageDigest{});
}

TEST_CASE("two trackers digest the same page differently") {
  Page page;
  store(page.bytes, 1);
  CHECK_FALSE(PageHash().digest(page.bytes, kPage) == PageHash().digest(page.bytes, kPage));
}

TEST_CASE("a table of digests refuses what does not fit it and takes no memory until it is used") {
  CHECK(code_of([] { PageDigests table(0, kPage); }) == "INVALID_ARGUMENT");
  CHECK(code_of([] { PageDigests table(~uint64_t{0}, kPage); }) == "INVALID_ARGUMENT");
  CHECK(code_of([] { PageDigests table(1, 0); }) == "INVALID_ARGUMENT");
  CHECK(code_of([] { PageDigests table(1, 4097); }) == "INVALID_ARGUMENT");
  CHECK(code_of([] { PageDigests table(1, uint64_t{1} << 30); }) == "TRACKER_UNAVAILABLE");
  PageDigests table(uint64_t{1} << 32, kPage);  // 16 TiB of guest, 64 GiB if it were all in use
  Page page;
  store(page.bytes + 80, 1);
  table.note(123456789, page.bytes, kPage);
  CHECK(table.next_nonzero(0, uint64_t{1} << 32) == 123456789);
  CHECK(table.next_nonzero(123456790, uint64_t{1} << 32) == uint64_t{1} << 32);
  CHECK(table.is_current(123456789, page.bytes));
  CHECK_FALSE(table.is_current(5, page.bytes));
  CHECK(code_of([&] { table.set_zero(uint64_t{1} << 32, 1); }) == "INVALID_ARGUMENT");
  CHECK(code_of([&] { table.set_zero(1, ~uint64_t{0}); }) == "INVALID_ARGUMENT");
  table.set_zero(0, uint64_t{1} << 32);
  CHECK(table.next_nonzero(0, uint64_t{1} << 32) == uint64_t{1} << 32);
}

TEST_CASE("a page shows until the peer has what it holds") {
  auto mapping = Mapping::memfd("hash-exact", 8 * kMiB);
  HashTracker tracker({mapping}, 1);
  tracker.start();
  auto bitmaps = bitmaps_for({mapping});
  CopyingPeer peer(tracker, mapping);
  CHECK(collect(tracker, bitmaps) == 0);  // a fresh peer has zeros, and so has the memory
  store(mapping->data() + 7 * kPage, 1);
  CHECK(collect(tracker, bitmaps) == 1);
  CHECK(bitmaps[0]->test(7));
  CHECK(collect(tracker, bitmaps) == 1);  // not sent yet
  peer.send(7);
  CHECK(collect(tracker, bitmaps) == 0);
  // A to B (sent) to A.
  store(mapping->data() + 7 * kPage, 2);
  peer.send(7);
  store(mapping->data() + 7 * kPage, 1);
  CHECK(collect(tracker, bitmaps) == 1);
  peer.send(7);
  // Zero again, and given back.
  store(mapping->data() + 7 * kPage, 0);
  CHECK(collect(tracker, bitmaps) == 1);
  tracker.sent()[0]->set_zero(7, 1);
  CHECK(collect(tracker, bitmaps) == 0);
  store(mapping->data() + 9 * kPage, 3);
  peer.send(9);
  REQUIRE(fallocate(mapping->file().get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 8 * kMiB) == 0);
  CHECK(collect(tracker, bitmaps) == 1);
  CHECK(bitmaps[0]->test(9));
}

TEST_CASE("blocks, threads and pieces: each page in the bitmap of its block") {
  std::mt19937_64 random(3);
  const Blocks blocks = {Mapping::memfd("hash-a", 600 * kMiB), Mapping::memfd("hash-b", kMiB)};
  for (const unsigned threads : {0, 1, 3}) {
    HashTracker tracker(blocks, threads);
    tracker.start();
    auto bitmaps = bitmaps_for(blocks);
    const uint64_t far = 150'000 + threads;
    store(blocks[0]->data() + far * kPage, random() | 1);
    store(blocks[1]->data() + threads * kPage, 1);
    tracker.collect(bitmaps);
    CHECK(bitmaps[0]->test(far));
    CHECK(bitmaps[1]->test(threads));
    CHECK_FALSE(bitmaps[1]->test(200));
  }
  CHECK(code_of([&] { HashTracker tracker(blocks, 65); }) == "INVALID_ARGUMENT");
}

TEST_CASE("a stop ends a collect of much memory soon") {
  auto mapping = Mapping::memfd("hash-stop", 1024 * kMiB);
  for (uint64_t at = 0; at < mapping->length(); at += kPage) store(mapping->data() + at, 1);
  HashTracker tracker({mapping}, 1);
  tracker.start();
  auto bitmaps = bitmaps_for({mapping});
  std::atomic<bool> begun{false};
  std::string code;
  std::thread collector([&] {
    begun = true;
    code = code_of([&] {
      for (;;) tracker.collect(bitmaps);
    });
  });
  while (!begun) std::this_thread::yield();
  tracker.stop();
  collector.join();
  CHECK(code == "CANCELLED");
}

TEST_CASE("a huge sparse range costs what is in use") {
  constexpr uint64_t kLength = uint64_t{16} << 30;
  const auto fill = [](Mapping& mapping) {
    for (uint64_t page = 0; page < 8192; ++page) store(mapping.data() + page * kPage, page + 1);
  };
  auto sparse = Mapping::memfd("hash-sparse", kLength), dense = Mapping::memfd("hash-dense", 8192 * kPage);
  const auto measure = [&](const std::shared_ptr<Mapping>& mapping) {
    fill(*mapping);
    HashTracker tracker({mapping}, 1);
    tracker.start();
    auto bitmaps = bitmaps_for({mapping});
    CHECK(tracker.collect(bitmaps) == 8192);
    return milliseconds([&] { tracker.collect(bitmaps); });
  };
  const double all = measure(dense), some = measure(sparse);
  CHECK(memory_test::allocated_bytes(*sparse) == 8192 * kPage);
  std::printf("collect of 32 MiB in use: %.2f ms in a block of 32 MiB, %.2f ms in one of 16 GiB\n", all,
              some);
}
