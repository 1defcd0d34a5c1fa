#include "iwarp/crc32c.h"

#include <algorithm>
#include <cstring>

#include "iwarp/crc32c_tables.h"

namespace rdma_migrate::iwarp {
namespace {

using Tables = std::array<std::array<uint32_t, 256>, 8>;

// tables[n][b]: the CRC of byte b followed by n zero bytes.
constexpr Tables make_tables() {
  Tables tables{};
  for (uint32_t value = 0; value < 256; ++value) {
    uint32_t crc = value;
    for (int bit = 0; bit < 8; ++bit) crc = crc32c_shift_bit(crc);
    tables[0][value] = crc;
  }
  for (size_t zeros = 1; zeros < 8; ++zeros) {
    for (uint32_t value = 0; value < 256; ++value) {
      uint32_t crc = tables[zeros - 1][value];
      tables[zeros][value] = crc >> 8 ^ tables[0][crc & 0xff];
    }
  }
  return tables;
}

constexpr Tables kTables = make_tables();

Crc32cFunction choose() {
  if (Crc32cFunction fold = crc32c_fold()) return fold;
  Crc32cFunction hardware = crc32c_hardware();
  return hardware != nullptr ? hardware : crc32c_portable;
}

Crc32cCopyFunction choose_copy() {
  Crc32cCopyFunction fold = crc32c_fold_copy();
  return fold != nullptr ? fold : crc32c_copy_in_pieces;
}

}  // namespace

uint32_t crc32c_portable(const uint8_t* data, size_t size, uint32_t seed) {
  uint32_t crc = ~seed;
  for (; size >= 8; data += 8, size -= 8) {
    // Byte by byte, so that the order of bytes in a word of this machine does not matter.
    crc = kTables[7][(crc ^ data[0]) & 0xff] ^ kTables[6][(crc >> 8 ^ data[1]) & 0xff] ^
          kTables[5][(crc >> 16 ^ data[2]) & 0xff] ^ kTables[4][(crc >> 24 ^ data[3]) & 0xff] ^
          kTables[3][data[4]] ^ kTables[2][data[5]] ^ kTables[1][data[6]] ^ kTables[0][data[7]];
  }
  for (; size != 0; ++data, --size) crc = crc >> 8 ^ kTables[0][(crc ^ *data) & 0xff];
  return ~crc;
}

uint32_t crc32c(std::span<const uint8_t> data, uint32_t seed) {
  static const Crc32cFunction function = choose();
  return function(data.data(), data.size(), seed);
}

// Pieces that are still in the first cache when they are summed.
uint32_t crc32c_copy_in_pieces(uint8_t* to, const uint8_t* from, size_t size, uint32_t seed) {
  constexpr size_t kPiece = 12288;  // what crc32c_hardware() takes at once
  for (size_t at = 0; at < size; at += kPiece) {
    const size_t length = std::min(kPiece, size - at);
    std::memcpy(to + at, from + at, length);
    seed = crc32c({to + at, length}, seed);
  }
  return seed;
}

uint32_t crc32c_copy(uint8_t* to, std::span<const uint8_t> from, uint32_t seed) {
  static const Crc32cCopyFunction function = choose_copy();
  return function(to, from.data(), from.size(), seed);
}

}  // namespace rdma_migrate::iwarp
