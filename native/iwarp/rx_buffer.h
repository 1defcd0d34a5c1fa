// Bytes of the stream on their way into an FPDU's hands: headers, small messages, and what came with them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace rdma_migrate::iwarp {

class RxBuffer {
 public:
  static constexpr size_t kSize = 8192;

  size_t available() const { return tail_ - head_; }
  const uint8_t* data() const { return bytes_.data() + head_; }
  void consume(size_t size) { head_ += size; }
  void clear() { head_ = tail_ = 0; }

  // Room behind what is there, after it has been moved to the front.
  uint8_t* room() {
    if (head_ != 0) {
      std::memmove(bytes_.data(), data(), available());
      tail_ = available();
      head_ = 0;
    }
    return bytes_.data() + tail_;
  }
  size_t free() const { return kSize - tail_; }
  void filled(size_t size) { tail_ += size; }

 private:
  std::array<uint8_t, kSize> bytes_;
  size_t head_ = 0;
  size_t tail_ = 0;
};

}  // namespace rdma_migrate::iwarp
