// Bytes of the stream on their way into an FPDU's hands: headers, small messages, and what came with them.
// Memory for it comes with the first byte, and may go with the last one: an idle queue pair needs none.
//
// It can be wide for a turn: what a thread stores by file passes through one buffer, for all of its queue
// pairs, which stays in the CPU's cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "memory/core_dumps.h"

namespace rdma_migrate::iwarp {

class RxBuffer {
 public:
  static constexpr size_t kSize = 32 * 1024;
  static constexpr size_t kWideSize = 256 * 1024;

  size_t available() const { return tail_ - head_; }
  // Nothing before the first room().
  const uint8_t* data() const { return memory_.get() + head_; }
  void consume(size_t size) { head_ += size; }
  void clear() { head_ = tail_ = 0; }
  bool is_wide() const { return size_ == kWideSize; }
  void widen() {
    if (!is_wide()) change_to(kWideSize);
  }
  // Unless more than kSize bytes are in it.
  void narrow() {
    if (is_wide() && available() <= kSize) change_to(kSize);
  }
  // Lends the memory to others of this thread while nothing is in it.
  void rest() {
    if (!memory_ || available() != 0) return;
    clear();
    give_back();
  }

  // Room after what is there, which has been moved to the front.
  uint8_t* room() {
    if (!memory_) {
      memory_ = borrow(size_);
    } else if (head_ != 0) {
      std::memmove(memory_.get(), data(), available());
      tail_ = available();
      head_ = 0;
    }
    return memory_.get() + tail_;
  }
  size_t free() const { return size_ - tail_; }
  void filled(size_t size) { tail_ += size; }

 private:
  using Memory = memory::PrivatePages;
  static constexpr size_t kMostSpares = 8;
  static constexpr size_t kMostWideSpares = 2;  // records, and what they open to

  static std::vector<Memory>& spares(size_t size) {
    static thread_local std::vector<Memory> narrow;
    static thread_local std::vector<Memory> wide;
    return size == kWideSize ? wide : narrow;
  }
  static Memory borrow(size_t size) {
    std::vector<Memory>& all = spares(size);
    if (all.empty()) return memory::private_pages(size);
    Memory memory = std::move(all.back());
    all.pop_back();
    return memory;
  }
  void give_back() {
    std::vector<Memory>& all = spares(size_);
    if (memory_ && all.size() < (is_wide() ? kMostWideSpares : kMostSpares))
      all.push_back(std::move(memory_));
    memory_.reset();
  }
  void change_to(size_t size) {
    const size_t kept = available();
    Memory next = kept == 0 ? nullptr : borrow(size);
    if (kept != 0) std::memcpy(next.get(), data(), kept);
    give_back();
    memory_ = std::move(next);
    size_ = size;
    head_ = 0;
    tail_ = kept;
  }

  Memory memory_;
  size_t size_ = kSize;
  size_t head_ = 0;
  size_t tail_ = 0;
};

}  // namespace rdma_migrate::iwarp
