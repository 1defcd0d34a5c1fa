#include "memory/vma.h"

#include <fcntl.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdio>
#include <fstream>
#include <string>

#include "error.h"

namespace rdma_migrate::memory {
namespace {

constexpr uint64_t kPresent = uint64_t{1} << 63;
constexpr uint64_t kSwapped = uint64_t{1} << 62;
constexpr size_t kBatch = 4096;  // entries, 32 KiB

bool parse(const char* line, Vma* vma) {
  char permissions[5] = {};
  if (std::sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %*x:%*x %" SCNu64, &vma->start, &vma->end,
                  permissions, &vma->file_offset, &vma->inode) != 5) {
    return false;
  }
  vma->readable = permissions[0] == 'r';
  vma->writable = permissions[1] == 'w';
  vma->shared = permissions[3] == 's';
  return true;
}

}  // namespace

std::vector<Vma> vmas_in(uint64_t address, uint64_t length) {
  std::ifstream file("/proc/self/maps");
  if (!file) throw Error("IO_ERROR", "cannot open /proc/self/maps; is /proc mounted?");
  std::vector<Vma> found;
  for (std::string line; std::getline(file, line);) {
    Vma vma;
    if (parse(line.c_str(), &vma) && vma.end > address && vma.start < address + length) found.push_back(vma);
  }
  return found;
}

PageMap::PageMap()
    : fd_(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)),
      page_size_(static_cast<uint64_t>(sysconf(_SC_PAGESIZE))) {}

PageMap::~PageMap() {
  if (fd_ >= 0) close(fd_);
}

bool PageMap::load(uint64_t page) {
  if (page >= first_page_ && page - first_page_ < entries_.size()) return true;
  entries_.resize(kBatch);
  const ssize_t bytes = fd_ < 0 ? -1
                                : pread(fd_, entries_.data(), kBatch * sizeof(uint64_t),
                                        static_cast<off_t>(page * sizeof(uint64_t)));
  entries_.resize(bytes > 0 ? static_cast<size_t>(bytes) / sizeof(uint64_t) : 0);
  first_page_ = page;
  return !entries_.empty();
}

bool PageMap::is_used(uint64_t page) const {
  return (entries_[page - first_page_] & (kPresent | kSwapped)) != 0;
}

uint64_t PageMap::run_end(uint64_t address, uint64_t end, bool* in_use) {
  uint64_t page = address / page_size_;
  const uint64_t last = end / page_size_;
  if (!load(page)) {
    *in_use = true;
    return end;
  }
  *in_use = is_used(page);
  while (++page < last && load(page) && is_used(page) == *in_use) {
  }
  return page * page_size_;
}

}  // namespace rdma_migrate::memory
