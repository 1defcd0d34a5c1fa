#include "dirty/page_digests.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <string>

#include "error.h"
#include "memory/core_dumps.h"

namespace rdma_migrate::dirty {
namespace {

constexpr uint64_t kGroup = 256;  // pages: 4 KiB of the table

uint64_t checked(uint64_t pages) {
  if (pages != 0 && pages <= memory::Bitmap::kMaxPages) return pages;
  throw Error("INVALID_ARGUMENT", "a table of " + std::to_string(pages) + " page digests: expected 1 to " +
                                      std::to_string(memory::Bitmap::kMaxPages));
}

}  // namespace

PageDigests::PageDigests(uint64_t pages, uint64_t page_size)
    : pages_(checked(pages)), page_size_(page_size), noted_((pages + kGroup - 1) / kGroup) {
  if (page_size == 0 || page_size % PageHash::kChunk != 0) {
    throw Error("INVALID_ARGUMENT", "page digests: expected pages of a multiple of 4096 bytes, not of " +
                                        std::to_string(page_size));
  }
  if (page_size > kMaxPageSize) {
    throw Error("TRACKER_UNAVAILABLE", "pages of " + std::to_string(page_size) +
                                           " bytes are too large to be tracked by content; the largest are " +
                                           std::to_string(kMaxPageSize) + " bytes");
  }
  void* mapped =
      mmap(nullptr, pages * 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) {
    throw Error("OUT_OF_MEMORY", "no room for " + std::to_string(pages * 16) + " bytes of page digests",
                errno);
  }
  memory::leave_out_of_core_dumps(mapped, pages * 16);
  words_ = static_cast<uint64_t*>(mapped);
}

PageDigests::~PageDigests() { munmap(words_, pages_ * 16); }

PageDigest PageDigests::get(uint64_t page) const {
  const auto read = [&](uint64_t index) {
    return std::atomic_ref<uint64_t>(words_[index]).load(std::memory_order_relaxed);
  };
  return {read(2 * page), read(2 * page + 1)};
}

void PageDigests::set(uint64_t page, const PageDigest& digest) {
  std::atomic_ref<uint64_t>(words_[2 * page]).store(digest.low, std::memory_order_relaxed);
  std::atomic_ref<uint64_t>(words_[2 * page + 1]).store(digest.high, std::memory_order_relaxed);
}

void PageDigests::note(uint64_t first_page, const uint8_t* copy, uint64_t length) {
  const uint64_t count = length / page_size_;
  if (count == 0) return;
  const uint64_t first_group = first_page / kGroup, last_group = (first_page + count - 1) / kGroup;
  noted_.set_range(first_group, last_group - first_group + 1);
  for (uint64_t i = 0; i < count; ++i) set(first_page + i, hash_.digest(copy + i * page_size_, page_size_));
}

void PageDigests::set_zero(uint64_t first_page, uint64_t count) {
  if (first_page > pages_ || count > pages_ - first_page) {
    throw Error("INVALID_ARGUMENT", "pages " + std::to_string(first_page) + " + " + std::to_string(count) +
                                        " leave a table of " + std::to_string(pages_) + " page digests");
  }
  const uint64_t end = first_page + count;
  for (uint64_t page = next_nonzero(first_page, end); page < end; page = next_nonzero(page + 1, end)) {
    set(page, {});
  }
}

uint64_t PageDigests::next_nonzero(uint64_t from, uint64_t end) const {
  while (from < end) {
    const uint64_t group = noted_.next_set(from / kGroup, (end - 1) / kGroup + 1);
    from = std::max(from, group * kGroup);
    for (const uint64_t stop = std::min(end, (group + 1) * kGroup); from < stop; ++from) {
      if (get(from) != PageDigest{}) return from;
    }
  }
  return end;
}

}  // namespace rdma_migrate::dirty
