// Which pages were told of: the account itself, and what WRITEs that arrive in segments add to it.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include "memory/coverage.h"

#include <doctest/doctest.h>

#include <memory>
#include <random>

#include "engine/placed_pages.h"
#include "memory_support.h"

using namespace memory_test;
using namespace rdma_migrate;
using memory::Coverage;

namespace {

uint64_t missing_pages(const Coverage& coverage) {
  uint64_t pages = 0;
  for (const auto& entry : coverage.missing()) pages += entry.pages;
  return pages;
}

}  // namespace

TEST_CASE("names the blocks that lack pages, how many, and the first") {
  Coverage coverage({8 * kPage, 4 * kPage, 2 * kPage}, kPage);
  coverage.add(0, 0, 8 * kPage);
  coverage.add(1, 0, kPage);
  coverage.add(1, 3 * kPage, kPage);
  const auto missing = coverage.missing();
  REQUIRE(missing.size() == 2);
  CHECK(missing[0].block == 1);
  CHECK(missing[0].pages == 2);
  CHECK(missing[0].first == kPage);
  CHECK(missing[1].block == 2);
  CHECK(missing[1].pages == 2);
  CHECK(missing[1].first == 0);
}

TEST_CASE("a page that is told in part is not told, the short last one of a block is") {
  Coverage coverage({3 * kPage + 100}, kPage);
  coverage.add(0, 1, kPage);
  coverage.add(0, kPage, kPage - 1);
  CHECK(missing_pages(coverage) == 4);
  coverage.add(0, 3 * kPage, 100);
  coverage.add(0, 1, 3 * kPage - 1);
  const auto missing = coverage.missing();
  REQUIRE(missing.size() == 1);
  CHECK(missing[0].pages == 1);
  CHECK(missing[0].first == 0);
}

TEST_CASE("refuses ranges outside, empty blocks and strange page sizes") {
  Coverage coverage({kPage}, kPage);
  CHECK(code_of([&] { coverage.add(1, 0, 1); }) == "INVALID_ARGUMENT");
  CHECK(code_of([&] { coverage.add(0, 1, kPage); }) == "INVALID_ARGUMENT");
  CHECK(code_of([&] { coverage.add(0, 2, UINT64_MAX); }) == "INVALID_ARGUMENT");
  CHECK(code_of([] { Coverage({0}, kPage); }) == "INVALID_ARGUMENT");
  CHECK(code_of([] { Coverage({kPage}, 3000); }) == "INVALID_ARGUMENT");
  CHECK(code_of([] { Coverage({kPage}, 0); }) == "INVALID_ARGUMENT");
}

TEST_CASE("a WRITE in segments of any size fills the pages that it fills, and no others") {
  std::mt19937_64 random(7);
  for (int round = 0; round < 200; ++round) {
    CAPTURE(round);
    auto coverage = std::make_shared<Coverage>(std::vector<uint64_t>{4 * kMiB, kMiB}, kPage);
    const std::vector<uint64_t> addresses = {64 * kMiB, 16 * kMiB};  // the second lies before the first
    engine::PlacedPages placed(coverage, addresses);
    const uint64_t begin = random() % kMiB;
    const uint64_t end = begin + random() % (3 * kMiB);
    for (uint64_t at = begin; at < end;) {
      const uint64_t size = std::min<uint64_t>(end - at, 1 + random() % 20'000);
      placed.placed(addresses[0] + at, size);
      at += size;
    }
    const uint64_t first = (begin + kPage - 1) / kPage;
    const uint64_t last = end / kPage;
    const uint64_t told = last > first ? last - first : 0;
    CHECK(missing_pages(*coverage) == (4 * kMiB + kMiB) / kPage - told);
  }
}

TEST_CASE("pieces of a page that do not follow each other do not make a page") {
  auto coverage = std::make_shared<Coverage>(std::vector<uint64_t>{2 * kPage, 2 * kPage}, kPage);
  engine::PlacedPages placed(coverage, {kMiB, 2 * kMiB});
  placed.placed(kMiB, kPage / 2);
  placed.placed(2 * kMiB, kPage);
  placed.placed(kMiB + kPage / 2, kPage / 2);
  CHECK(missing_pages(*coverage) == 3);
  placed.placed(5 * kMiB, kPage);  // memory that is not the VM's
  placed.placed(kMiB - kPage, kPage);
  CHECK(missing_pages(*coverage) == 3);
}

TEST_CASE("what ends past a block counts only within it, and adjacent blocks are two") {
  auto coverage = std::make_shared<Coverage>(std::vector<uint64_t>{2 * kPage, 2 * kPage}, kPage);
  engine::PlacedPages placed(coverage, {kMiB, kMiB + 2 * kPage});
  placed.placed(kMiB, 2 * kPage);
  placed.placed(kMiB + 2 * kPage, 3 * kPage);
  CHECK(coverage->missing().empty());
}

TEST_CASE("an account of another number of blocks is refused") {
  auto coverage = std::make_shared<Coverage>(std::vector<uint64_t>{kPage}, kPage);
  CHECK(code_of([&] { engine::PlacedPages(coverage, {}); }) == "INVALID_ARGUMENT");
}
