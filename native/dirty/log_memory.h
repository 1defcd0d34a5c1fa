// A dirty log's words.
#pragma once

#include <cstdint>
#include <string>

#include "dirty/bitmap_log.h"
#include "fd.h"

namespace rdma_migrate::dirty {

class LogMemory {
 public:
  // For `bytes` of guest memory, called `name` in errors. Throws Error: INVALID_ARGUMENT, OUT_OF_MEMORY.
  LogMemory(const DirtyLog& log, uint64_t bytes, const std::string& name);
  ~LogMemory();
  LogMemory(const LogMemory&) = delete;
  LogMemory& operator=(const LogMemory&) = delete;

  uint64_t page_size() const { return page_size_; }
  uint64_t words() const { return (pages_ + 63) / 64; }
  // The first word of [from, end) that has a bit, or end. Bits that are set meanwhile it may miss.
  uint64_t next(uint64_t from, uint64_t end) const;
  // The bits of word `index` that were set; bits past the last page are ignored.
  uint64_t take(uint64_t index);
  // Before a run of take(): a file that has become shorter would raise SIGBUS. Throws Error: IO_ERROR.
  void check() const;

 private:
  uint64_t bytes() const { return words() * 8; }
  void map_file(const DirtyLog& log);
  void check_range(uint64_t address) const;

  std::string name_;
  uint64_t page_size_;
  uint64_t pages_;
  UniqueFd fd_;
  uint64_t file_end_ = 0;
  void* mapped_ = nullptr;
  uint64_t mapped_length_ = 0;
  uint64_t* first_ = nullptr;
};

}  // namespace rdma_migrate::dirty
