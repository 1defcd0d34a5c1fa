#include "memory/populate.h"

#include <fcntl.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

#include "memory/madvise.h"

namespace rdma_migrate::memory {
namespace {

constexpr const char* kOperation = "populating";
constexpr uint64_t kFreeSpaceParts = 4;

Range page_range(const Mapping& mapping, uint64_t offset, uint64_t length) {
  const uint64_t page = mapping.page_size();
  const uint64_t begin = offset - offset % page;
  const uint64_t end = offset + length;
  return {begin, (end + page - 1) / page * page - begin};
}

// False: this kernel has no MADV_POPULATE_WRITE. end: of all that is to be populated, for the error.
bool populate_by_advice(const Mapping& mapping, const Range& range, uint64_t end) {
  while (madvise(mapping.data() + range.offset, range.length, MADV_POPULATE_WRITE) != 0) {
    if (errno == EINTR) continue;
    if (errno == EINVAL) return false;
    throw mapping.error(kOperation, {range.offset, end - range.offset}, Mapping::Access::kWrite, errno);
  }
  return true;
}

// Whether a touch of the range can fail only as any use of memory can, and not with SIGBUS.
bool reserve(const Mapping& mapping, const Range& range) {
  if (mapping.kind() == Mapping::Kind::kCaller) {
    return std::all_of(mapping.vmas().begin(), mapping.vmas().end(),
                       [](const Vma& v) { return v.absent_is_zero(); });
  }
  const auto file = mapping.file();
  while (fallocate(file.get(), FALLOC_FL_KEEP_SIZE, static_cast<off_t>(range.offset),
                   static_cast<off_t>(range.length)) != 0) {
    if (errno == EINTR) continue;
    if (errno == EOPNOTSUPP) return false;
    throw mapping.error(kOperation, range, Mapping::Access::kWrite, errno);
  }
  return true;
}

// A memfd or a caller's range takes memory, which has its own limits.
bool leaves_room(const Mapping& mapping, uint64_t length) {
  struct statvfs system {};
  if (mapping.kind() != Mapping::Kind::kFile || fstatvfs(mapping.file().get(), &system) != 0) return true;
  if (system.f_blocks == 0) return true;  // a file system without a size
  return length <= uint64_t{system.f_bavail} * system.f_frsize / kFreeSpaceParts;
}

}  // namespace

namespace internal {

void populate_by_touch(const Mapping& mapping, const Range& range) {
  if (!reserve(mapping, range)) return;
  for (uint64_t at = range.offset; at < range.end(); at += mapping.page_size()) {
    std::atomic_ref<uint8_t>(mapping.data()[at]).fetch_or(0, std::memory_order_relaxed);
  }
}

}  // namespace internal

void populate(const Mapping& mapping, uint64_t offset, uint64_t length, const CancelFlag* cancel,
              FreeSpace free_space) {
  mapping.check_writable(offset, length, kOperation);
  const Range all = page_range(mapping, offset, length);
  if (mapping.kind() == Mapping::Kind::kMemfd && !mapping.is_hugetlb()) {
    madvise(mapping.data() + all.offset, all.length, MADV_HUGEPAGE);  // advice: a refusal changes nothing
  }
  bool advised = true;
  for (uint64_t at = all.offset; at < all.end();) {
    throw_if_cancelled(cancel, kOperation);
    const Range step = {at, std::min(std::max(kStepBytes, mapping.page_size()), all.end() - at)};
    if (free_space == FreeSpace::kKeep && !leaves_room(mapping, step.length)) return;
    try {
      advised = advised && populate_by_advice(mapping, step, all.end());
      if (!advised) internal::populate_by_touch(mapping, step);
      mapping.note_touched(step);
    } catch (const Error& error) {
      // Another user has taken the room meanwhile: whether there is enough will show when it is needed.
      if (free_space == FreeSpace::kKeep && error.code() == "DISK_FULL") return;
      throw;
    }
    at = step.end();
  }
}

}  // namespace rdma_migrate::memory
