// The table of registered memory before a device is known.
#include <doctest/doctest.h>

#include "verbs/pieces.h"
#include "verbs/regions.h"

using namespace rdma_migrate;

TEST_CASE("a request that is longer than a piece is refused before a device is known") {
  constexpr uint64_t kPiece = verbs::kLeastPiece;
  const auto regions = std::make_shared<verbs::Regions>();
  const auto region = regions->add(0x10000, 2 * kPiece, 0);
  const verbs::Regions::View view(*regions);
  const auto check = [&](uint64_t length) {
    view.check(region->lkey(), 0x10000, static_cast<uint32_t>(length), 0);
  };
  CHECK_NOTHROW(check(kPiece));
  CHECK_THROWS_WITH_AS(check(kPiece + 1), doctest::Contains("in pieces of 67108864 bytes"), Error);
}
