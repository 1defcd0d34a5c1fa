#include "engine/placed_pages.h"

#include <algorithm>
#include <utility>

namespace rdma_migrate::engine {

PlacedPages::PlacedPages(std::shared_ptr<memory::Coverage> coverage, const std::vector<uint64_t>& addresses)
    : coverage_(std::move(coverage)) {
  if (addresses.size() != coverage_->blocks()) {
    throw Error("INVALID_ARGUMENT", "the coverage is that of another number of blocks");
  }
  for (size_t i = 0; i < addresses.size(); ++i) {
    places_.push_back({addresses[i], addresses[i] + coverage_->length(i), i});
  }
  std::sort(places_.begin(), places_.end(),
            [](const Place& a, const Place& b) { return a.address < b.address; });
}

void PlacedPages::placed(uint64_t address, uint64_t length) {
  if (last_ == nullptr || address < last_->address || address >= last_->end) last_ = find(address);
  if (last_ == nullptr) return;  // memory that is not the VM's
  if (address != run_end_) run_ = address;
  // From the page on that the piece before has left unfinished.
  const uint64_t begin =
      std::max({run_, last_->address, address - std::min(address, coverage_->page_size())});
  const uint64_t end = std::min(address + length, last_->end);
  run_end_ = address + length;
  coverage_->add(last_->block, begin - last_->address, end - begin);
}

const PlacedPages::Place* PlacedPages::find(uint64_t address) const {
  auto after = std::upper_bound(places_.begin(), places_.end(), address,
                                [](uint64_t value, const Place& place) { return value < place.address; });
  if (after == places_.begin()) return nullptr;
  const Place& place = *std::prev(after);
  return address < place.end ? &place : nullptr;
}

}  // namespace rdma_migrate::engine
