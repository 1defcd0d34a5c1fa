#include "dirty/pagemap.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "error.h"

namespace rdma_migrate::dirty {
namespace {

constexpr size_t kBatch = 65536;  // entries: 512 KiB, for 256 MiB of 4 KiB pages

}  // namespace

Pagemap::Pagemap(UniqueFd fd)
    : fd_(std::move(fd)), page_size_(static_cast<uint64_t>(sysconf(_SC_PAGESIZE))), entries_(kBatch) {}

void Pagemap::read(uint64_t address, uint64_t length,
                   const std::function<void(uint64_t, std::span<const uint64_t>)>& visit) {
  for (const uint64_t end = address + length; address < end;) {
    const size_t wanted = std::min<uint64_t>(kBatch, (end - address) / page_size_);
    const ssize_t got = pread(fd_.get(), entries_.data(), wanted * sizeof(uint64_t),
                              static_cast<off_t>(address / page_size_ * sizeof(uint64_t)));
    if (got < 0 && errno == EINTR) continue;
    const size_t count = got < 0 ? 0 : static_cast<size_t>(got) / sizeof(uint64_t);
    if (count == 0) {
      throw Error("IO_ERROR", "cannot read the page map: the process has ended, or its memory is not mapped",
                  got < 0 ? errno : 0);
    }
    visit(address, {entries_.data(), count});
    address += count * page_size_;
  }
}

}  // namespace rdma_migrate::dirty
