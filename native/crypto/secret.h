// Bytes that are wiped when they go.
#pragma once

#include <string.h>  // explicit_bzero

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace rdma_migrate::crypto {

template <size_t Size>
class WipedBytes {
 public:
  WipedBytes() = default;
  explicit WipedBytes(std::span<const uint8_t, Size> bytes) {
    std::copy(bytes.begin(), bytes.end(), bytes_.begin());
  }
  WipedBytes(const WipedBytes&) = default;
  WipedBytes& operator=(const WipedBytes&) = default;
  ~WipedBytes() { explicit_bzero(bytes_.data(), Size); }

  std::span<const uint8_t, Size> view() const { return bytes_; }
  std::span<uint8_t, Size> view() { return bytes_; }

 private:
  std::array<uint8_t, Size> bytes_{};
};

// A traffic secret of TLS_AES_256_GCM_SHA384 (RFC 8446 section 7.1).
using Secret = WipedBytes<48>;

}  // namespace rdma_migrate::crypto
