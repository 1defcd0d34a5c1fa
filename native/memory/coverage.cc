#include "memory/coverage.h"

#include <bit>
#include <string>

#include "error.h"

namespace rdma_migrate::memory {

Coverage::Coverage(const std::vector<uint64_t>& lengths, uint64_t page_size) {
  if (!std::has_single_bit(page_size)) {
    throw Error("INVALID_ARGUMENT",
                "pages of " + std::to_string(page_size) + " bytes: expected a power of two");
  }
  shift_ = static_cast<unsigned>(std::countr_zero(page_size));
  blocks_.reserve(lengths.size());
  for (uint64_t length : lengths) {
    const uint64_t pages = (length >> shift_) + ((length & (page_size - 1)) != 0 ? 1 : 0);
    blocks_.push_back({length, std::make_unique<Bitmap>(pages)});
  }
}

void Coverage::add(size_t block, uint64_t offset, uint64_t length) {
  if (block >= blocks_.size() || offset > blocks_[block].length || length > blocks_[block].length - offset) {
    throw Error("INVALID_ARGUMENT", std::to_string(length) + " bytes at " + std::to_string(offset) +
                                        " of block " + std::to_string(block) + " are not within it");
  }
  Block& place = blocks_[block];
  const uint64_t mask = page_size() - 1;
  const uint64_t first = (offset >> shift_) + ((offset & mask) != 0 ? 1 : 0);
  const uint64_t end = offset + length == place.length ? place.told->pages() : (offset + length) >> shift_;
  if (first < end) place.told->set_range(first, end - first);
}

std::vector<uint8_t> Coverage::shares(size_t block, uint64_t pages_per_cell) const {
  if (block >= blocks_.size()) {
    throw Error("INVALID_ARGUMENT", "there is no block " + std::to_string(block));
  }
  return blocks_[block].told->shares(pages_per_cell);
}

std::vector<Coverage::Missing> Coverage::missing() const {
  std::vector<Missing> result;
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const Bitmap& told = *blocks_[i].told;
    const uint64_t pages = told.pages() - told.count();
    if (pages != 0) result.push_back({i, pages, told.next_clear(0, told.pages()) << shift_});
  }
  return result;
}

}  // namespace rdma_migrate::memory
