// Tells a coverage of the pages that the peer's WRITEs fill.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "fabric/fabric.h"
#include "memory/coverage.h"

namespace rdma_migrate::engine {

// A WRITE arrives in segments that are cut anywhere, also within a page: what continues the segment before is
// one range with it.
class PlacedPages final : public fabric::PlacementObserver {
 public:
  // Where each block of the coverage lies in this process. Throws Error("INVALID_ARGUMENT") for another
  // number of them.
  PlacedPages(std::shared_ptr<memory::Coverage> coverage, const std::vector<uint64_t>& addresses);

  void placed(uint64_t address, uint64_t length) override;

 private:
  struct Place {
    uint64_t address = 0;
    uint64_t end = 0;
    size_t block = 0;
  };

  const Place* find(uint64_t address) const;

  const std::shared_ptr<memory::Coverage> coverage_;
  std::vector<Place> places_;  // ascending
  const Place* last_ = nullptr;
  uint64_t run_ = 0;  // first address and end of what came in one go
  uint64_t run_end_ = 0;
};

}  // namespace rdma_migrate::engine
