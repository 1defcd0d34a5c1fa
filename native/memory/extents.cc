#include "memory/extents.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "memory/madvise.h"
#include "memory/zero_page.h"

namespace rdma_migrate::memory {
namespace {

constexpr const char* kOperation = "looking for holes in";

uint64_t align_down(uint64_t value, uint64_t unit) { return value - value % unit; }

}  // namespace

ExtentCursor::ExtentCursor(const Mapping& mapping, uint64_t offset, uint64_t length)
    : mapping_(mapping), at_(offset), end_(offset + length) {
  mapping.check(offset, length, kOperation);
}

bool ExtentCursor::next(Extent* extent) {
  if (at_ >= end_) return false;
  extent->is_hole = false;
  const uint64_t end = std::min(find_end(extent), end_);
  extent->range = {at_, end - at_};
  at_ = end;
  return true;
}

uint64_t ExtentCursor::find_end(Extent* extent) {
  const bool is_callers = mapping_.kind() == Mapping::Kind::kCaller;
  if (is_callers && !mapping_.has_file()) return look_up(extent);
  const Range known = mapping_.known_data();
  if (at_ >= known.offset && at_ < known.end()) return known.end();
  if (mapping_.seeks_holes()) return seek(extent);
  if (mapping_.is_hugetlb() && !is_callers) return seek_hugetlb(extent);
  return end_;
}

uint64_t ExtentCursor::seek(Extent* extent) {
  const uint64_t from = mapping_.fd_offset() + at_;
  const auto file = mapping_.file();
  const off_t data = lseek(file.get(), static_cast<off_t>(from), SEEK_DATA);
  if (data < 0) {
    // ENXIO: no data from here to the end of the file. What a truncation cut off is lost, not zero.
    const int cause = errno == ENXIO && mapping_.was_truncated(end_) ? EFAULT : errno;
    if (cause != ENXIO) {
      throw mapping_.error(kOperation, {at_, end_ - at_}, Mapping::Access::kRead, cause);
    }
    extent->is_hole = true;
    return end_;
  }
  // File systems with blocks smaller than a page may begin data inside a page.
  const uint64_t begin = align_down(static_cast<uint64_t>(data) - mapping_.fd_offset(), mapping_.page_size());
  if (begin > at_) {
    extent->is_hole = true;
    return begin;
  }
  const off_t hole = lseek(file.get(), static_cast<off_t>(from), SEEK_HOLE);
  if (hole < 0) throw mapping_.error(kOperation, {at_, end_ - at_}, Mapping::Access::kRead, errno);
  const uint64_t page = mapping_.page_size();
  const uint64_t end = align_down(static_cast<uint64_t>(hole) - mapping_.fd_offset() + page - 1, page);
  // At least this page, even if something races with us.
  const uint64_t data_end = std::max(end, align_down(at_, page) + page);
  mapping_.remember_data({at_, data_end - at_});
  return data_end;
}

// hugetlbfs has no SEEK_DATA, and reading an absent page through the mapping would take one from the pool.
uint64_t ExtentCursor::seek_hugetlb(Extent* extent) {
  const uint64_t page = align_down(at_, mapping_.page_size());
  buffer_.resize(1024 * 1024 + 64);
  uint8_t* buffer = buffer_.data() + 64 - reinterpret_cast<uintptr_t>(buffer_.data()) % 64;
  const uint64_t end = page + mapping_.page_size();
  extent->is_hole = true;
  const auto file = mapping_.file();
  for (uint64_t at = page; at < end && extent->is_hole;) {
    const size_t wanted = std::min<uint64_t>(1024 * 1024, end - at);
    const ssize_t got = pread(file.get(), buffer, wanted, static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    extent->is_hole = got == static_cast<ssize_t>(wanted) && is_zero(buffer, wanted);
    at += wanted;
  }
  if (!extent->is_hole) mapping_.remember_data({page, end - page});
  return end;
}

uint64_t ExtentCursor::look_up(Extent* extent) {
  const uint64_t address = mapping_.address() + at_;
  const auto& vmas = mapping_.vmas();
  const auto vma = std::find_if(vmas.begin(), vmas.end(), [&](const Vma& v) { return v.end > address; });
  if (vma == vmas.end()) return end_;
  const uint64_t vma_end = std::min(vma->end, mapping_.address() + mapping_.length());
  if (!vma->absent_is_zero()) return vma_end - mapping_.address();
  if (!page_map_) page_map_ = std::make_unique<PageMap>();
  bool in_use = true;
  const uint64_t page = align_down(address, mapping_.page_size());
  // Cut to the part asked for: a huge guest is not walked to its end for one page.
  const uint64_t last =
      align_down(mapping_.address() + end_ + mapping_.page_size() - 1, mapping_.page_size());
  const uint64_t run_end = page_map_->run_end(page, std::min(vma_end, last), &in_use);
  extent->is_hole = !in_use;
  return run_end - mapping_.address();
}

void fault_in(const Mapping& mapping, const Range& range) {
  if (mapping.kind() != Mapping::Kind::kFile || range.length == 0) return;
  const uint64_t begin = align_down(range.offset, mapping.page_size());
  const uint64_t end = std::min(mapping.length(), range.end());
  while (madvise(mapping.data() + begin, end - begin, MADV_POPULATE_READ) != 0) {
    if (errno == EINTR) continue;
    if (errno == EFAULT || errno == EIO) {
      throw mapping.error("reading", range, Mapping::Access::kRead, errno);
    }
    return;  // EINVAL: an older kernel. Others: the reader will see for itself.
  }
}

}  // namespace rdma_migrate::memory
