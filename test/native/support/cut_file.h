// Memory that is mapped from a file which becomes shorter.
#pragma once

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>

#include "fd.h"

namespace rdma_migrate::test {

class CutFile {
 public:
  explicit CutFile(size_t pages) : size_(pages * 4096), file_(memfd_create("cut", MFD_CLOEXEC)) {
    REQUIRE(ftruncate(file_.get(), static_cast<off_t>(size_)) == 0);
    void* mapped = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0);
    REQUIRE(mapped != MAP_FAILED);
    data_ = static_cast<uint8_t*>(mapped);
    std::memset(data_, 0x5a, size_);
  }
  ~CutFile() { munmap(data_, size_); }
  CutFile(const CutFile&) = delete;
  CutFile& operator=(const CutFile&) = delete;

  uint8_t* data() const { return data_; }
  uint64_t address() const { return reinterpret_cast<uintptr_t>(data_); }
  size_t size() const { return size_; }
  // So many pages are left.
  void cut(size_t pages) { REQUIRE(ftruncate(file_.get(), static_cast<off_t>(pages * 4096)) == 0); }

 private:
  const size_t size_;
  UniqueFd file_;
  uint8_t* data_ = nullptr;
};

}  // namespace rdma_migrate::test
