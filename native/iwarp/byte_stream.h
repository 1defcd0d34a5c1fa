// Fields in network byte order, one after the other: written into bytes, and read from bytes that may be
// anybody's.
#pragma once

#include <algorithm>
#include <span>

#include "fabric/types.h"

namespace rdma_migrate::iwarp {

class ByteWriter {
 public:
  explicit ByteWriter(fabric::Bytes& to) : to_(to) {}
  void u8(uint8_t value) { to_.push_back(value); }
  void u16(uint16_t value) { store(value, 2); }
  void u32(uint32_t value) { store(value, 4); }
  void u64(uint64_t value) { store(value, 8); }
  void bytes(std::span<const uint8_t> more) {
    for (const uint8_t byte : more) to_.push_back(byte);
  }

 private:
  void store(uint64_t value, size_t size) {
    while (size-- != 0) to_.push_back(static_cast<uint8_t>(value >> (8 * size)));
  }
  fabric::Bytes& to_;
};

// What is missing reads as zeros, and ok() says so.
class ByteReader {
 public:
  explicit ByteReader(std::span<const uint8_t> from) : from_(from) {}
  uint8_t u8() { return static_cast<uint8_t>(load(1)); }
  uint16_t u16() { return static_cast<uint16_t>(load(2)); }
  uint32_t u32() { return static_cast<uint32_t>(load(4)); }
  uint64_t u64() { return load(8); }
  void bytes(std::span<uint8_t> out) {
    if (!has(out.size())) return std::fill(out.begin(), out.end(), uint8_t{0});
    std::copy_n(from_.begin(), out.size(), out.begin());
    from_ = from_.subspan(out.size());
  }
  // A number of things that follow, of least bytes each: never more than there is room for.
  size_t count(size_t least) {
    const uint32_t count = u32();
    if (count > from_.size() / least) fail();
    return ok_ ? count : 0;
  }
  bool ok() const { return ok_; }
  bool at_end() const { return ok_ && from_.empty(); }
  void fail() {
    ok_ = false;
    from_ = {};
  }

 private:
  bool has(size_t size) {
    if (size > from_.size()) fail();
    return ok_;
  }
  uint64_t load(size_t size) {
    if (!has(size)) return 0;
    uint64_t value = 0;
    for (size_t at = 0; at < size; ++at) value = value << 8 | from_[at];
    from_ = from_.subspan(size);
    return value;
  }
  std::span<const uint8_t> from_;
  bool ok_ = true;
};

}  // namespace rdma_migrate::iwarp
