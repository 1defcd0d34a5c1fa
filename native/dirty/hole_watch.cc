#include "dirty/hole_watch.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "dirty/tracker.h"
#include "memory/zero_page.h"

namespace rdma_migrate::dirty {
namespace {

// Two changes within this many seconds may have the same time.
constexpr double kClockTick = 0.1;
constexpr uint64_t kCacheStep = uint64_t{1} << 30;  // bytes per mincore() call, 256 KiB of results

}  // namespace

bool HoleWatch::needed(const memory::Mapping& mapping) {
  if (mapping.kind() != memory::Mapping::Kind::kCaller) return true;
  const auto& vmas = mapping.vmas();
  return std::any_of(vmas.begin(), vmas.end(), [](const memory::Vma& vma) { return vma.shared; });
}

HoleWatch::HoleWatch(std::shared_ptr<memory::Mapping> mapping)
    : mapping_(std::move(mapping)), data_(pages_of(*mapping_)), zero_(pages_of(*mapping_)) {
  update(nullptr);
}

uint64_t HoleWatch::update(memory::Bitmap* dirty) {
  const bool changed = may_have_changed();  // asked first: later discards belong to the next call
  const bool by_file = mapping_->has_file() && mapping_->seeks_holes();
  const uint64_t holes = by_file ? walk_file(dirty) : walk_cache(dirty);
  return changed && dirty != nullptr ? holes + find_zeros(dirty) : holes;
}

// Hole punching sets a file's time of change; stores through a mapping of memory do not.
bool HoleWatch::may_have_changed() {
  struct stat status {};
  if (!mapping_->has_file() || !mapping_->seeks_holes() || fstat(mapping_->file().get(), &status) != 0)
    return true;
  const bool changed = change_is_fresh_ || status.st_ctim.tv_sec != changed_.tv_sec ||
                       status.st_ctim.tv_nsec != changed_.tv_nsec;
  changed_ = status.st_ctim;
  timespec now = {};
  clock_gettime(CLOCK_REALTIME, &now);
  const double age = static_cast<double>(now.tv_sec - changed_.tv_sec) +
                     static_cast<double>(now.tv_nsec - changed_.tv_nsec) / 1e9;
  change_is_fresh_ = age < kClockTick;
  return changed;
}

uint64_t HoleWatch::find_zeros(memory::Bitmap* dirty) {
  uint64_t found = 0;
  const uint64_t pages = data_.pages(), page_size = mapping_->page_size();
  for (uint64_t page = data_.next_set(0, pages); page < pages; page = data_.next_set(page + 1, pages)) {
    if (zero_.test(page) || !memory::is_zero(mapping_->data() + page * page_size, page_size)) continue;
    zero_.set_range(page, 1);
    dirty->set_range(page, 1);
    ++found;
  }
  return found;
}

uint64_t HoleWatch::note(bool is_data, uint64_t first, uint64_t end, memory::Bitmap* dirty) {
  if (is_data) {
    data_.set_range(first, end - first);
    return 0;
  }
  uint64_t given_back = 0;
  for (uint64_t page = data_.next_set(first, end); page < end; page = data_.next_set(page, end)) {
    const uint64_t stop = data_.next_clear(page, end);
    data_.clear_range(page, stop - page);
    if (dirty != nullptr) dirty->set_range(page, stop - page);
    given_back += stop - page;
    page = stop;
  }
  return given_back;
}

// A page that is part hole, part data is data.
uint64_t HoleWatch::walk_file(memory::Bitmap* dirty) {
  const uint64_t page_size = mapping_->page_size();
  const uint64_t base = mapping_->fd_offset(), end = base + mapping_->length();
  uint64_t given_back = 0;
  const auto file = mapping_->file();
  for (uint64_t at = base; at < end;) {
    off_t data = lseek(file.get(), static_cast<off_t>(at), SEEK_DATA);
    if (data < 0 && errno != ENXIO) {
      throw mapping_->error("looking for holes in", {at - base, end - at}, memory::Mapping::Access::kRead,
                            errno);
    }
    const uint64_t begin = data < 0 ? end : std::min(end, static_cast<uint64_t>(data));
    given_back += note(false, (at - base) / page_size, (begin - base) / page_size, dirty);
    if (begin >= end) break;
    const off_t hole = lseek(file.get(), static_cast<off_t>(begin), SEEK_HOLE);
    const uint64_t stop = hole < 0 ? end : std::min(end, static_cast<uint64_t>(hole));
    const uint64_t last = (stop - base + page_size - 1) / page_size;
    note(true, (begin - base) / page_size, last, dirty);
    at = base + last * page_size;
  }
  return given_back;
}

uint64_t HoleWatch::walk_cache(memory::Bitmap* dirty) {
  const auto host_page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const uint64_t page_size = mapping_->page_size();
  resident_.resize(std::min(kCacheStep, mapping_->length()) / host_page);
  uint64_t given_back = 0;
  for (uint64_t at = 0; at < mapping_->length(); at += kCacheStep) {
    const uint64_t length = std::min(kCacheStep, mapping_->length() - at);
    if (mincore(mapping_->data() + at, length, resident_.data()) != 0) {
      throw mapping_->error("looking for holes in", {at, length}, memory::Mapping::Access::kRead, errno);
    }
    for (uint64_t page = 0; page < length / page_size;) {
      const uint64_t first = page;
      const bool is_data = (resident_[page * page_size / host_page] & 1) != 0;
      while (page < length / page_size && ((resident_[page * page_size / host_page] & 1) != 0) == is_data)
        ++page;
      given_back += note(is_data, at / page_size + first, at / page_size + page, dirty);
    }
  }
  return given_back;
}

}  // namespace rdma_migrate::dirty
