// Memory whose pages come when the test says: who touches it before then waits, as for a disk that hangs.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

#include "fd.h"

namespace rdma_migrate::test {

class HeldPages {
 public:
  explicit HeldPages(size_t pages) : size_(pages * 4096) {
    // Of this process' own accesses; of system calls it needs a privilege.
    constexpr int kUserModeOnly = 1;
    fd_ = UniqueFd(static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | kUserModeOnly)));
    REQUIRE(fd_);
    uffdio_api api{};
    api.api = UFFD_API;
    REQUIRE(ioctl(fd_.get(), UFFDIO_API, &api) == 0);
    void* mapped = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(mapped != MAP_FAILED);
    data_ = static_cast<uint8_t*>(mapped);
    uffdio_register wanted{};
    wanted.range = {address(), size_};
    wanted.mode = UFFDIO_REGISTER_MODE_MISSING;
    REQUIRE(ioctl(fd_.get(), UFFDIO_REGISTER, &wanted) == 0);
  }
  ~HeldPages() {
    release();
    munmap(data_, size_);
  }
  HeldPages(const HeldPages&) = delete;
  HeldPages& operator=(const HeldPages&) = delete;

  uint8_t* data() const { return data_; }
  uint64_t address() const { return reinterpret_cast<uintptr_t>(data_); }
  size_t size() const { return size_; }
  // Returns when somebody waits for a page.
  void wait_touched() {
    pollfd entry{fd_.get(), POLLIN, 0};
    REQUIRE(poll(&entry, 1, 60'000) == 1);
  }
  void release() {
    uffdio_zeropage zeros{};
    zeros.range = {address(), size_};
    ioctl(fd_.get(), UFFDIO_ZEROPAGE, &zeros);
  }

 private:
  const size_t size_;
  UniqueFd fd_;
  uint8_t* data_ = nullptr;
};

}  // namespace rdma_migrate::test
