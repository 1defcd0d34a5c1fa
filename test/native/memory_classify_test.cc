#include <doctest/doctest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "memory/classify.h"
#include "memory_support.h"

using namespace memory_test;
using namespace rdma_migrate::memory;

namespace {

using Pages = std::vector<bool>;

// The definition in the plainest words: one page at a time.
struct Model {
  Pages candidate;
  Pages zero;

  Classification run(const ClassifyWindow& window) {
    Classification result;
    const uint64_t first = window.offset / kPage, end = first + window.length / kPage;
    for (uint64_t page = first; page < end;) {
      uint64_t stop = page;
      while (stop < end && candidate[stop] && zero[stop]) ++stop;
      if (stop > page && (stop - page) * kPage >= window.min_zero_run) {
        result.zero_runs.push_back({page * kPage, (stop - page) * kPage});
        result.zero_pages += stop - page;
        std::fill(candidate.begin() + static_cast<std::ptrdiff_t>(page),
                  candidate.begin() + static_cast<std::ptrdiff_t>(stop), false);
      }
      page = std::max(stop, page + 1);
    }
    for (uint64_t page = first; page < end; ++page) {
      if (!candidate[page]) continue;
      ++result.data_pages;
      auto& runs = result.data_runs;
      const bool near = !runs.empty() && (runs.back().end() == page * kPage ||
                                          page * kPage - runs.back().end() < window.merge_gap);
      if (near) {
        runs.back().length = (page + 1) * kPage - runs.back().offset;
      } else {
        runs.push_back({page * kPage, kPage});
      }
    }
    return result;
  }
};

Pages bits_of(const Bitmap& bitmap) {
  Pages pages(bitmap.pages());
  for (uint64_t i = 0; i < pages.size(); ++i) pages[i] = bitmap.test(i);
  return pages;
}

void check_equal(const Classification& got, const Classification& expected) {
  REQUIRE(got.zero_pages == expected.zero_pages);
  REQUIRE(got.data_pages == expected.data_pages);
  REQUIRE(got.zero_runs == expected.zero_runs);
  REQUIRE(got.data_runs == expected.data_runs);
}

// Runs of pages: hole, written zeros, or data. Runs and not single pages, so that whole words of each kind
// occur.
Pages fill_pages(const Mapping& mapping, std::mt19937_64& random) {
  const uint64_t count = mapping.length() / kPage;
  Pages zero(count, true);
  for (uint64_t page = 0; page < count;) {
    const uint64_t kind = random() % 3;
    for (uint64_t left = random() % (random() % 2 == 0 ? 4 : 200) + 1; left > 0 && page < count;
         --left, ++page) {
      if (kind == 1) mapping.data()[page * kPage] = 0;
      if (kind == 2) mapping.data()[page * kPage + random() % kPage] = 1;
      zero[page] = kind != 2;
    }
  }
  return zero;
}

Pages choose_candidates(Bitmap& bitmap, std::mt19937_64& random) {
  if (random() % 4 == 0) {
    bitmap.set_range(0, bitmap.pages());
  } else {
    for (uint64_t page = 0; page < bitmap.pages();) {
      const uint64_t count = std::min(bitmap.pages() - page, random() % 100 + 1);
      if (random() % 2 == 0) bitmap.set_range(page, count);
      page += count;
    }
  }
  return bits_of(bitmap);
}

}  // namespace

TEST_CASE("windows that end early, one after the other, find what one does") {
  std::mt19937_64 random(7);
  for (int round = 0; round < 10; ++round) {
    CAPTURE(round);
    const uint64_t pages = random() % 30000 + 1;
    const auto mapping = Mapping::memfd("ram", pages * kPage);
    const Pages zero = fill_pages(*mapping, random);
    Bitmap whole(pages), parts(pages);
    choose_candidates(whole, random);
    for (uint64_t page = 0; page < pages; ++page)
      if (whole.test(page)) parts.set_range(page, 1);
    const Classification expected = classify(*mapping, whole, {0, pages * kPage, 0, 0});
    CHECK(expected.end == pages * kPage);
    Classification got;
    size_t windows = 0;
    while (got.end < pages * kPage) {
      const uint64_t begin = got.end;
      const uint64_t most = (random() % 5000 + 1) * kPage;
      const auto found = classify(*mapping, parts, {begin, pages * kPage - begin, 0, 0, most});
      REQUIRE(found.end > begin);
      REQUIRE((found.end == pages * kPage || found.end % (uint64_t{16} << 20) == 0));
      got.end = found.end;
      got.data_pages += found.data_pages;
      got.zero_pages += found.zero_pages;
      ++windows;
    }
    CHECK(got.data_pages == expected.data_pages);
    CHECK(got.zero_pages == expected.zero_pages);
    CHECK(windows <= pages / 4096 + 1);
    for (uint64_t page = 0; page < pages; ++page) REQUIRE(whole.test(page) == parts.test(page));
  }
}

TEST_CASE("holes, and pages whose bits are clear, cost nothing of what a window may read") {
  constexpr uint64_t kPages = uint64_t{8} << 18;  // 8 GiB
  const auto mapping = Mapping::memfd("ram", kPages * kPage);
  Bitmap bitmap(kPages);
  bitmap.set_range(0, kPages / 2);
  for (uint64_t page = 0; page < kPages; page += kPages / 16) mapping->data()[page * kPage] = 1;
  const auto found = classify(*mapping, bitmap, {0, kPages * kPage, 0, 0, 8 * kPage});
  // Eight of the pages in use are candidates: with the last of them it ends.
  CHECK(found.data_pages == 8);
  CHECK(found.end == (kPages / 16 * 7 + 4096) * kPage);
  CHECK(bitmap.count(0, kPages / 16 * 7) == 7);
}

TEST_CASE("a window of huge pages ends as early, and what is read to find its holes counts") {
  constexpr uint64_t kHuge = 2 * kMiB, kPages = 32;
  std::shared_ptr<Mapping> mapping;
  try {
    mapping = Mapping::memfd("ram", kPages * kHuge, kHuge);
  } catch (const Error& error) {
    MESSAGE("skipped: ", std::string(error.what()));
    return;
  }
  Bitmap bitmap(kPages);
  bitmap.set_range(0, kPages);
  for (const uint64_t page : {1, 9, 10}) mapping->data()[page * kHuge] = 1;
  uint64_t data = 0, zero = 0;
  for (uint64_t begin = 0; begin < kPages * kHuge;) {
    const auto found = classify(*mapping, bitmap, {begin, kPages * kHuge - begin, 0, 0, kPage});
    REQUIRE(found.end == begin + 16 * kMiB);
    CHECK(bitmap.count(found.end / kHuge, kPages - found.end / kHuge) == kPages - found.end / kHuge);
    data += found.data_pages;
    zero += found.zero_pages;
    begin = found.end;
  }
  CHECK(data == 3);
  CHECK(zero == kPages - 3);
  CHECK(allocated_bytes(*mapping) == 3 * kHuge);
  // With room for two steps it takes two.
  bitmap.set_range(0, kPages);
  CHECK(classify(*mapping, bitmap, {0, kPages * kHuge, 0, 0, 17 * kMiB}).end == 32 * kMiB);
}

TEST_CASE("agrees with a page-by-page model on random memory, bitmaps and windows") {
  std::mt19937_64 random(5);
  for (int round = 0; round < 60; ++round) {
    CAPTURE(round);
    const uint64_t pages = random() % 9000 + 1;
    Anonymous memory(pages * kPage);
    const auto mapping = round % 2 == 0 ? Mapping::memfd("ram", pages * kPage)
                                        : Mapping::caller(memory.address(), pages * kPage);
    Bitmap bitmap(pages + random() % 2);
    Model model{{}, fill_pages(*mapping, random)};
    model.zero.resize(bitmap.pages());
    model.candidate = choose_candidates(bitmap, random);
    for (int i = 0; i < 3; ++i) {
      const uint64_t first = i == 0 ? 0 : random() % pages;
      const uint64_t count = i == 0 ? pages : random() % (pages - first + 1);
      const ClassifyWindow window = {first * kPage, count * kPage, random() % 20 * kPage,
                                     random() % 20 * kPage};
      check_equal(classify(*mapping, bitmap, window), model.run(window));
      REQUIRE(bits_of(bitmap) == model.candidate);
    }
  }
}

TEST_CASE("a clear page ends a zero run; short zero runs travel as data") {
  const auto mapping = Mapping::memfd("ram", 256 * kPage);
  Bitmap bitmap(256);
  bitmap.set_range(0, 256);
  bitmap.clear_range(100, 1);
  auto found = classify(*mapping, bitmap, {0, 256 * kPage, 101 * kPage, 0});
  CHECK(found.zero_runs == std::vector<Range>{{101 * kPage, 155 * kPage}});
  CHECK(found.data_runs == std::vector<Range>{{0, 100 * kPage}});
  CHECK(found.data_pages == 100);
  CHECK(bitmap.count() == 100);
  found = classify(*mapping, bitmap, {0, 256 * kPage, 0, 0});
  CHECK(found.zero_pages == 100);
  CHECK(bitmap.count() == 0);
}

TEST_CASE("what was found zero is noted, and taken out again when it is data") {
  const auto mapping = Mapping::memfd("ram", 256 * kPage);
  Bitmap bitmap(256), zeros(256);
  bitmap.set_range(0, 256);
  mapping->data()[7 * kPage] = 1;
  classify(*mapping, bitmap, {0, 256 * kPage, 0, 0}, nullptr, &zeros);
  CHECK(zeros.count() == 255);
  CHECK(!zeros.test(7));
  // Nothing is said of a page that is not looked at.
  mapping->data()[8 * kPage] = mapping->data()[9 * kPage] = 1;
  bitmap.set_range(8, 1);
  classify(*mapping, bitmap, {0, 256 * kPage, 0, 0}, nullptr, &zeros);
  CHECK(!zeros.test(8));
  CHECK(zeros.test(9));
  Bitmap other(255);
  CHECK(code_of([&] {
          classify(*mapping, bitmap, {0, kPage, 0, 0}, nullptr, &other);
        }) == "INVALID_ARGUMENT");
}

TEST_CASE("a sparse block is classified without touching a page") {
  const auto memfd = Mapping::memfd("ram", 1024 * kMiB);
  Bitmap bitmap(memfd->length() / kPage);
  bitmap.set_range(0, bitmap.pages());
  CHECK(classify(*memfd, bitmap, {0, memfd->length(), 0, 0}).zero_pages == bitmap.pages());
  CHECK(allocated_bytes(*memfd) == 0);

  Anonymous memory(256 * kMiB);
  const auto caller = Mapping::caller(memory.address(), memory.length());
  Bitmap other(memory.length() / kPage);
  other.set_range(0, other.pages());
  CHECK(classify(*caller, other, {0, memory.length(), 0, 0}).zero_pages == other.pages());
  CHECK(memory.resident_pages() == 0);
}

TEST_CASE("pages that are not candidates are not read") {
  Anonymous memory(256 * kPage, MAP_SHARED);  // nothing is known of its holes: candidates are read
  const auto mapping = Mapping::caller(memory.address(), memory.length());
  Bitmap bitmap(256);
  bitmap.set_range(10, 3);
  CHECK(classify(*mapping, bitmap, {0, 256 * kPage, 0, 0}).zero_pages == 3);
  CHECK(memory.resident_pages() <= 16);  // a read fault may map neighbours
}

TEST_CASE("refuses windows that are not whole pages of mapping and bitmap") {
  const auto mapping = Mapping::memfd("ram", 64 * kPage);
  Bitmap bitmap(32);
  CHECK(code_of([&] { classify(*mapping, bitmap, {1, kPage, 0, 0}); }) == "INVALID_ARGUMENT");
  CHECK(code_of([&] { classify(*mapping, bitmap, {0, 100, 0, 0}); }) == "INVALID_ARGUMENT");
  CHECK(code_of([&] { classify(*mapping, bitmap, {0, 65 * kPage, 0, 0}); }) == "INVALID_ARGUMENT");
  CHECK(code_of([&] { classify(*mapping, bitmap, {0, 33 * kPage, 0, 0}); }) == "INVALID_ARGUMENT");
  CHECK(code_of([&] { classify(*mapping, bitmap, {0, kPage, 0, 0, 0}); }) == "INVALID_ARGUMENT");
  CHECK(code_of([&] {
          classify(*mapping, bitmap, {kPage, UINT64_MAX - kPage + 1, 0, 0});
        }) == "INVALID_ARGUMENT");
  CHECK(code_of([&] { classify(*mapping, bitmap, {0, 32 * kPage, 0, 0}); }) == "none");
}

TEST_CASE("every candidate is set again after an error") {
  TemporaryFolder folder;
  const uint64_t pages = 20000;
  const auto mapping = Mapping::file(folder.file("ram"), pages * kPage, FileMode::kCreate);
  std::mt19937_64 random(6);
  fill_pages(*mapping, random);
  Bitmap bitmap(pages);
  choose_candidates(bitmap, random);
  const Pages before = bits_of(bitmap);
  const CancelFlag cancel(true);
  CHECK(code_of([&] { classify(*mapping, bitmap, {0, pages * kPage, 0, 0}, &cancel); }) == "CANCELLED");
  CHECK(bits_of(bitmap) == before);
  REQUIRE(truncate(folder.file("ram").c_str(), 19000 * kPage) == 0);
  bitmap.set_range(18990, 1010);
  const Pages again = bits_of(bitmap);
  CHECK(code_of([&] { classify(*mapping, bitmap, {0, pages * kPage, 0, 0}); }) == "IO_ERROR");
  CHECK(bits_of(bitmap) == again);
}

TEST_CASE("a page that is written while it is scanned, and marked afterwards, is never lost") {
  constexpr uint64_t kPages = 1024;
  const auto mapping = Mapping::memfd("ram", kPages * kPage);
  for (int round = 0; round < 300; ++round) {
    std::memset(mapping->data(), 0, kPages * kPage);
    Bitmap bitmap(kPages);
    bitmap.set_range(0, kPages);
    std::atomic<uint64_t> written{0};
    std::thread guest([&] {  // backwards, so that it meets the scan
      for (; written < kPages; ++written) {
        const uint64_t page = kPages - 1 - written;
        std::atomic_ref<uint8_t>(mapping->data()[page * kPage + 2048]).store(1);
        bitmap.set_range(page, 1);
      }
    });
    // Each page is written once: a mark that is lost stays lost.
    Pages sent(kPages);
    do {
      classify(*mapping, bitmap, {0, kPages * kPage, 0, 0});
      for (uint64_t page = bitmap.next_set(0, kPages); page < kPages;
           page = bitmap.next_set(page + 1, kPages)) {
        bitmap.clear_range(page, 1);
        sent[page] = std::atomic_ref<uint8_t>(mapping->data()[page * kPage + 2048]).load() == 1;
      }
    } while (written < kPages);
    guest.join();
    for (uint64_t page = 0; page < kPages; ++page) REQUIRE((sent[page] || bitmap.test(page)));
  }
}
