// What the tests of native/memory share.
#pragma once

#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>

#include "memory/mapping.h"

namespace memory_test {

using rdma_migrate::Error;
using rdma_migrate::memory::FileMode;
using rdma_migrate::memory::Mapping;

inline constexpr uint64_t kPage = 4096;
inline constexpr uint64_t kMiB = 1024 * 1024;

// The code of the Error that body throws, or "none".
template <typename Body>
std::string code_of(Body body) {
  try {
    body();
    return "none";
  } catch (const Error& error) {
    return error.code();
  }
}

template <typename Body>
std::string message_of(Body body) {
  try {
    body();
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

// A folder that is removed with what is in it (one level).
class TemporaryFolder {
 public:
  explicit TemporaryFolder(const std::string& parent = "/tmp") : path_(parent + "/rdma-migrate-XXXXXX") {
    if (mkdtemp(path_.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
  }
  ~TemporaryFolder() {
    if (mounted_) umount2(path_.c_str(), MNT_DETACH);
    const std::string command = "rm -rf '" + path_ + "'";
    if (std::system(command.c_str()) != 0) std::fprintf(stderr, "could not remove %s\n", path_.c_str());
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::string file(const std::string& name) const { return path_ + "/" + name; }

  // Makes it a file system of `bytes`. False where the user may not mount.
  bool mount_tmpfs(uint64_t bytes) {
    const std::string options = "size=" + std::to_string(bytes);
    mounted_ = mount("tmpfs", path_.c_str(), "tmpfs", 0, options.c_str()) == 0;
    return mounted_;
  }

 private:
  std::string path_;
  bool mounted_ = false;
};

// Private anonymous memory of this process.
class Anonymous {
 public:
  explicit Anonymous(uint64_t length, int flags = MAP_PRIVATE)
      : length_(length),
        data_(static_cast<uint8_t*>(
            mmap(nullptr, length, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))) {
    if (data_ == MAP_FAILED) throw std::runtime_error("mmap failed");
    madvise(data_, length_, MADV_NOHUGEPAGE);
  }
  ~Anonymous() { munmap(data_, length_); }
  Anonymous(const Anonymous&) = delete;
  Anonymous& operator=(const Anonymous&) = delete;

  uint8_t* data() const { return data_; }
  uint64_t address() const { return reinterpret_cast<uint64_t>(data_); }
  uint64_t length() const { return length_; }

  uint64_t resident_pages() const {
    std::vector<unsigned char> present(length_ / kPage);
    mincore(data_, length_, present.data());
    uint64_t count = 0;
    for (const unsigned char page : present) count += page & 1;
    return count;
  }

 private:
  uint64_t length_;
  uint8_t* data_;
};

// Memory that a memfd or file uses.
inline uint64_t allocated_bytes(const Mapping& mapping) {
  struct stat status {};
  fstat(mapping.file().get(), &status);
  return static_cast<uint64_t>(status.st_blocks) * 512;
}

inline void fill_random(uint8_t* data, uint64_t length, std::mt19937_64& random) {
  for (uint64_t at = 0; at < length; at += 8) {
    const uint64_t word = random() | 1;
    std::memcpy(data + at, &word, 8);
  }
}

}  // namespace memory_test
