#include <sys/stat.h>
#include <sys/statvfs.h>

#include <cerrno>

#include "memory/mapping.h"
#include "memory/memory_limit.h"

namespace rdma_migrate::memory {
namespace {

std::string code_of(int sys_errno) {
  switch (sys_errno) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return "DISK_FULL";
    case ENOMEM:
      return "OUT_OF_MEMORY";
    case EMFILE:
    case ENFILE:
      return "RESOURCE_LIMIT";
    case EACCES:
    case EPERM:
    case EROFS:
      return "PERMISSION_DENIED";
    default:
      return "IO_ERROR";
  }
}

std::string free_space(int fd) {
  struct statvfs system {};
  if (fd < 0 || fstatvfs(fd, &system) != 0) return "";
  return ", " + format_bytes(uint64_t{system.f_bavail} * system.f_frsize) + " free on its file system";
}

}  // namespace

Error storage_error(const std::string& what, uint64_t needed, int fd, int sys_errno) {
  const std::string code = code_of(sys_errno);
  std::string message = what;
  if (code == "DISK_FULL" || code == "OUT_OF_MEMORY") message += ": " + format_bytes(needed) + " needed";
  if (code == "DISK_FULL") message += free_space(fd);
  if (code == "OUT_OF_MEMORY") {
    const MemoryLimit limit = memory_limit();
    message += ", " + limit.source + " give this process " + format_bytes(limit.bytes) + " at most";
  }
  return Error(code, message, sys_errno);
}

Error huge_page_error(const std::string& what, uint64_t needed, uint64_t huge_page_size, int sys_errno) {
  return Error("OUT_OF_MEMORY",
               what + ": " + format_bytes(needed) + " needed, but " + huge_page_state(huge_page_size),
               sys_errno);
}

// Says what failed even if the file can no longer be opened.
Error Mapping::storage_failure(const std::string& what, uint64_t needed, int sys_errno) const {
  if (!has_file()) return storage_error(what, needed, -1, sys_errno);
  try {
    return storage_error(what, needed, file().get(), sys_errno);
  } catch (const Error&) {
    return storage_error(what, needed, -1, sys_errno);
  }
}

bool Mapping::was_truncated(uint64_t end) const {
  struct stat status {};
  return has_file() && fstat(file().get(), &status) == 0 &&
         static_cast<uint64_t>(status.st_size) < fd_offset_ + end;
}

// EFAULT is what madvise(MADV_POPULATE_*) returns where an access would raise SIGBUS: a full disk, a
// truncated file, no huge page left, or a disk that cannot be read.
Error Mapping::error(const char* operation, const Range& range, Access access, int sys_errno) const {
  const std::string what =
      std::string(operation) + " " + name_ + " at offset " + std::to_string(range.offset);
  if (sys_errno != EFAULT) return storage_failure(what, range.length, sys_errno);
  if (was_truncated(range.end())) {
    return Error("IO_ERROR", what + ": the file has been made shorter while it was mapped", sys_errno);
  }
  if (hugetlb_) return huge_page_error(what, range.length, page_size_, sys_errno);
  if (kind_ == Kind::kMemfd) return storage_error(what, range.length, -1, ENOMEM);
  if (kind_ == Kind::kFile && access == Access::kWrite) return storage_failure(what, range.length, ENOSPC);
  return Error("IO_ERROR", what + ": the memory cannot be read or written", sys_errno);
}

}  // namespace rdma_migrate::memory
