// Bytes of the stream on their way into an FPDU's hands: headers, small messages, and what came with them.
// Memory for it comes with the first byte, and may go with the last one: an idle queue pair needs none.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

namespace rdma_migrate::iwarp {

class RxBuffer {
 public:
  static constexpr size_t kSize = 32 * 1024;

  size_t available() const { return tail_ - head_; }
  // Nothing before the first room().
  const uint8_t* data() const { return memory_->data() + head_; }
  void consume(size_t size) { head_ += size; }
  void clear() { head_ = tail_ = 0; }
  // Lends the memory to others of this thread while nothing is in it.
  void rest() {
    if (!memory_ || available() != 0) return;
    clear();
    if (spares().size() < kMostSpares) spares().push_back(std::move(memory_));
    memory_.reset();
  }

  // Room after what is there, which has been moved to the front.
  uint8_t* room() {
    if (!memory_) {
      borrow();
    } else if (head_ != 0) {
      std::memmove(memory_->data(), data(), available());
      tail_ = available();
      head_ = 0;
    }
    return memory_->data() + tail_;
  }
  size_t free() const { return kSize - tail_; }
  void filled(size_t size) { tail_ += size; }

 private:
  using Memory = std::array<uint8_t, kSize>;
  static constexpr size_t kMostSpares = 8;

  static std::vector<std::unique_ptr<Memory>>& spares() {
    static thread_local std::vector<std::unique_ptr<Memory>> all;
    return all;
  }
  void borrow() {
    if (spares().empty()) {
      memory_ = std::make_unique<Memory>();
      return;
    }
    memory_ = std::move(spares().back());
    spares().pop_back();
  }

  std::unique_ptr<Memory> memory_;
  size_t head_ = 0;
  size_t tail_ = 0;
};

}  // namespace rdma_migrate::iwarp
