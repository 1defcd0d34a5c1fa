// Payload in the receive buffer that waits to be stored in the file under its region. Segments of WRITEs that
// follow each other are one run: a page that their borders cut is stored once, and whole.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace rdma_migrate::iwarp {

class StoredRun {
 public:
  bool empty() const { return count_ == 0; }
  bool is_full() const { return count_ == pieces_.size(); }
  uint64_t size() const { return size_; }
  std::span<const iovec> pieces() const { return {pieces_.data(), count_}; }
  // Not empty; not is_full(). data stays as it is until the run has been cleared.
  void add(const uint8_t* data, size_t size) {
    pieces_[count_++] = {const_cast<uint8_t*>(data), size};
    size_ += size;
  }
  // Forgets the last size bytes, or all.
  void drop(size_t size) {
    while (size != 0 && count_ != 0) {
      iovec& last = pieces_[count_ - 1];
      const size_t part = size < last.iov_len ? size : last.iov_len;
      last.iov_len -= part;
      size -= part;
      size_ -= part;
      if (last.iov_len == 0) --count_;
    }
  }

 private:
  std::array<iovec, 32> pieces_;
  size_t count_ = 0;
  uint64_t size_ = 0;
};

}  // namespace rdma_migrate::iwarp
