#include "iwarp/safe_copy.h"

#include <fcntl.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>

namespace rdma_migrate::iwarp {
namespace {

// The file that backs address according to /proc/self/maps, or nothing.
std::string backing_file(uint64_t address) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    std::istringstream fields(line);
    uint64_t begin = 0;
    uint64_t end = 0;
    char dash = 0;
    std::string rights, offset, device, inode, path;
    fields >> std::hex >> begin >> dash >> end >> rights >> offset >> device >> inode;
    if (address < begin || address >= end) continue;
    std::getline(fields >> std::ws, path);
    return path;
  }
  return {};
}

}  // namespace

SafeCopy::SafeCopy() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
    throw Error("INTERNAL", "cannot make a pipe; raise the limit of open files (ulimit -n)", errno);
  }
  read_end_ = UniqueFd(ends[0]);
  write_end_ = UniqueFd(ends[1]);
}

bool SafeCopy::copy(uint8_t* to, const uint8_t* from, size_t size) {
  while (size != 0) {
    ssize_t queued = ::write(write_end_.get(), from, std::min(size, size_t{4096}));
    if (queued <= 0) throw Error("INTERNAL", "cannot write to a pipe of this process", errno);
    for (ssize_t moved = 0; moved < queued;) {
      ssize_t got = ::read(read_end_.get(), to + moved, static_cast<size_t>(queued - moved));
      if (got <= 0) return false;
      moved += got;
    }
    to += queued;
    from += queued;
    size -= static_cast<size_t>(queued);
  }
  return true;
}

Error storage_error(uint64_t address, const char* action) {
  std::string path = backing_file(address);
  std::string where = path.empty() ? "registered memory" : "memory mapped from '" + path + "'";
  struct statvfs stats {};
  if (!path.empty() && statvfs(path.c_str(), &stats) == 0 && stats.f_bavail == 0) {
    return Error("DISK_FULL", std::string("cannot ") + action + " " + where +
                                  ": its file system is full; make room and start again");
  }
  return Error("IO_ERROR",
               std::string("cannot ") + action + " " + where +
                   ": the pages behind it are not there (unmapped, file cut, or I/O error)",
               EFAULT);
}

}  // namespace rdma_migrate::iwarp
