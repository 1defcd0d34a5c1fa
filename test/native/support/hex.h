// Bytes as published test vectors have them.
#pragma once

#include <string>

#include "fabric/types.h"

namespace rdma_migrate::test {

inline fabric::Bytes unhex(const std::string& digits) {
  fabric::Bytes bytes;
  for (size_t at = 0; at + 1 < digits.size(); at += 2)
    bytes.push_back(static_cast<uint8_t>(std::stoi(digits.substr(at, 2), nullptr, 16)));
  return bytes;
}

}  // namespace rdma_migrate::test
