// The page records of the ram section in a plain QEMU migration stream (QEMU: docs/devel/migration,
// RAM_SAVE_FLAG_*): a big-endian u64 whose low 12 bits are flags and whose other bits are the page's address
// within its block; without CONTINUE a u8 length and the block's name; then, for PAGE, 4096 bytes, or, for
// ZERO, the one byte that fills the page.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "memory/mapping.h"
#include "memory/range.h"

namespace rdma_migrate::memory {

enum PageFlag : uint64_t {
  kFlagZero = 0x02,
  kFlagMemSize = 0x04,
  kFlagPage = 0x08,
  kFlagEos = 0x10,
  kFlagContinue = 0x20,
  kFlagXbzrle = 0x40,
  kFlagHook = 0x80,
  kFlagCompressPage = 0x100,
  kFlagMultifdFlush = 0x200,
};
inline constexpr uint64_t kFlagMask = kTargetPageSize - 1;
inline constexpr size_t kMaxBlockName = 255;
// Word, name length, name, page.
inline constexpr size_t kMaxRecordBytes = 8 + 1 + kMaxBlockName + kTargetPageSize;

// A block of the stream. Readers and writers hold no mapping between their calls, so that it can be closed; a
// call after that throws Error("CLOSED").
struct PageBlock {
  std::string name;  // 1 to 255 bytes, unique
  std::weak_ptr<Mapping> mapping;
  uint64_t length = 0;
};

// Throws Error("INVALID_ARGUMENT") for bad or repeated names, or a mapping that is not writable but must
// be.
std::vector<PageBlock> make_page_blocks(
    const std::vector<std::pair<std::string, std::shared_ptr<Mapping>>>& blocks, bool to_be_written);

// The block's mapping, or Error("CLOSED").
std::shared_ptr<Mapping> lock(const PageBlock& block);

}  // namespace rdma_migrate::memory
