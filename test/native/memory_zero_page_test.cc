#include <doctest/doctest.h>

#include "memory/zero_page.h"
#include "memory_support.h"

using namespace rdma_migrate::memory;
using memory_test::kPage;

TEST_CASE("every implementation finds a single byte at every position of a page") {
  alignas(4096) static uint8_t page[kPage];
  size_t count = 0;
  const internal::ZeroScan* scans = internal::zero_scans(&count);
  REQUIRE(count >= 1);
  for (size_t scan = 0; scan < count; ++scan) {
    CAPTURE(std::string(scans[scan].name));
    REQUIRE(scans[scan].is_zero(page, kPage));
    for (uint64_t at = 0; at < kPage; ++at) {
      for (const int value : {1, 0x80, 0xff}) {
        page[at] = static_cast<uint8_t>(value);
        REQUIRE_FALSE(scans[scan].is_zero(page, kPage));
      }
      page[at] = 0;
    }
    REQUIRE(scans[scan].is_zero(page, kPage));
  }
}

TEST_CASE("looks at no byte outside the range") {
  alignas(4096) static uint8_t pages[3 * kPage];
  std::memset(pages, 0xff, sizeof pages);
  std::memset(pages + kPage, 0, kPage);
  CHECK(is_zero(pages + kPage, kPage));
  CHECK_FALSE(is_zero(pages, kPage));
  CHECK_FALSE(is_zero(pages + 2 * kPage, kPage));
  CHECK(is_zero(pages, 0));
}

TEST_CASE("uses the best instruction set of this CPU") {
  size_t count = 0;
  CHECK(zero_scan_name() == internal::zero_scans(&count)[0].name);
  MESSAGE("zero pages are found with ", std::string(zero_scan_name()));
}
