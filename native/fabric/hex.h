// Bytes of a peer in the only form in which messages show them.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace rdma_migrate::fabric {

// "00ff"
inline std::string hex_of(std::span<const uint8_t> bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(2 * bytes.size());
  for (const uint8_t byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

}  // namespace rdma_migrate::fabric
