#include "dirty/log_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>

#include "memory/vma.h"
#include "memory/zero_page.h"

namespace rdma_migrate::dirty {
namespace {

static_assert(std::endian::native == std::endian::little, "the log's words would have to be swapped");

// What is looked at in one go.
constexpr uint64_t kScanBytes = 4096;
constexpr uint64_t kScanWords = kScanBytes / sizeof(uint64_t);

Error refused(const std::string& name, const std::string& why, int sys_errno = 0) {
  return Error("INVALID_ARGUMENT", "the dirty log of " + name + " " + why, sys_errno);
}

uint64_t checked_page_size(uint64_t page_size, const std::string& name) {
  if (page_size >= 512 && std::has_single_bit(page_size)) return page_size;
  throw refused(name,
                "has pages of " + std::to_string(page_size) + " bytes: expected a power of two, 512 or more");
}

}  // namespace

LogMemory::LogMemory(const DirtyLog& log, uint64_t bytes, const std::string& name)
    : name_(name),
      page_size_(checked_page_size(log.log_page_size, name)),
      pages_((bytes - 1) / page_size_ + 1) {
  if (log.fd >= 0) {
    map_file(log);
    return;
  }
  if (log.address % 8 != 0 || log.address == 0) throw refused(name_, "is not at a multiple of 8 bytes");
  if (log.offset > UINT64_MAX - log.address || log.offset % 8 != 0) throw refused(name_, "has a bad offset");
  check_range(log.address + log.offset);
  first_ = reinterpret_cast<uint64_t*>(log.address + log.offset);
}

LogMemory::~LogMemory() {
  if (mapped_ != nullptr) munmap(mapped_, mapped_length_);
}

void LogMemory::map_file(const DirtyLog& log) {
  const auto host_page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  if (log.offset % 8 != 0 || log.offset > INT64_MAX - bytes() - host_page)
    throw refused(name_, "has a bad offset");
  fd_ = UniqueFd(fcntl(log.fd, F_DUPFD_CLOEXEC, 0));
  if (!fd_) throw refused(name_, "has a bad file descriptor", errno);
  file_end_ = log.offset + bytes();
  check();
  const uint64_t before = log.offset % host_page;
  mapped_length_ = before + bytes();
  void* mapped = mmap(nullptr, mapped_length_, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(),
                      static_cast<off_t>(log.offset - before));
  if (mapped == MAP_FAILED) {
    if (errno == ENOMEM) throw Error("OUT_OF_MEMORY", "no room to map the dirty log of " + name_, errno);
    throw refused(name_, "cannot be mapped for reading and writing", errno);
  }
  mapped_ = mapped;
  first_ = reinterpret_cast<uint64_t*>(static_cast<uint8_t*>(mapped) + before);
}

void LogMemory::check_range(uint64_t address) const {
  if (address > UINT64_MAX - bytes()) throw refused(name_, "wraps around the address space");
  uint64_t covered = address;
  for (const memory::Vma& vma : memory::vmas_in(address, bytes())) {
    if (vma.start > covered || !vma.readable || !vma.writable) break;
    covered = vma.end;
  }
  if (covered >= address + bytes()) return;
  throw refused(
      name_, "needs " + std::to_string(bytes()) + " bytes, which are not all mapped for reading and writing");
}

void LogMemory::check() const {
  if (!fd_) return;
  struct stat status {};
  if (fstat(fd_.get(), &status) != 0) throw refused(name_, "cannot be examined", errno);
  const bool has_size = S_ISREG(status.st_mode);
  const uint64_t size = has_size ? static_cast<uint64_t>(status.st_size) : 0;
  if (has_size && size >= file_end_) return;
  const std::string found = has_size ? std::to_string(size) + " bytes long" : "not a file or memfd";
  throw Error(
      first_ == nullptr ? "INVALID_ARGUMENT" : "IO_ERROR",
      "the dirty log of " + name_ + " is " + found + "; " + std::to_string(file_end_) + " bytes are needed");
}

// Most words of most logs are zero: they are passed over at the speed of memory, and just reading them leaves
// their cache lines shared.
uint64_t LogMemory::next(uint64_t from, uint64_t end) const {
  const auto at = [this](uint64_t index) {
    return std::atomic_ref<uint64_t>(first_[index]).load(std::memory_order_relaxed);
  };
  while (from < end) {
    const auto* words = reinterpret_cast<const uint8_t*>(first_ + from);
    const bool whole = reinterpret_cast<uintptr_t>(words) % kScanBytes == 0 && end - from >= kScanWords;
    if (whole && memory::is_zero(words, kScanBytes)) {
      from += kScanWords;
      continue;
    }
    // To where the next such piece begins.
    const uint64_t into = reinterpret_cast<uintptr_t>(words) % kScanBytes / sizeof(uint64_t);
    for (const uint64_t stop = std::min(end, from + kScanWords - into); from < stop; ++from)
      if (at(from) != 0) return from;
  }
  return end;
}

uint64_t LogMemory::take(uint64_t index) {
  const std::atomic_ref<uint64_t> word(first_[index]);
  const uint64_t bits = word.exchange(0, std::memory_order_acq_rel);
  const uint64_t left = pages_ - index * 64;
  return left >= 64 ? bits : bits & ((uint64_t{1} << left) - 1);
}

}  // namespace rdma_migrate::dirty
