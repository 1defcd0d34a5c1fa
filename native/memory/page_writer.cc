#include "memory/page_writer.h"

#include <algorithm>
#include <cstring>

#include "memory/extents.h"
#include "memory/zero_page.h"

namespace rdma_migrate::memory {

// The caller's buffer and how much of it is used.
class PageWriter::Output {
 public:
  explicit Output(std::span<uint8_t> buffer) : buffer_(buffer) {}

  size_t used() const { return used_; }
  size_t room() const { return buffer_.size() - used_; }

  void put_byte(size_t value) { buffer_[used_++] = static_cast<uint8_t>(value); }
  void put_be64(uint64_t value) {
    for (int shift = 56; shift >= 0; shift -= 8) put_byte(value >> shift & 0xff);
  }
  void put(const void* bytes, size_t length) {
    std::memcpy(buffer_.data() + used_, bytes, length);
    used_ += length;
  }

 private:
  std::span<uint8_t> buffer_;
  size_t used_ = 0;
};

PageWriter::Filled PageWriter::fill(std::span<uint8_t> buffer) {
  if (buffer.size() < kMaxRecordBytes) {
    throw Error("INVALID_ARGUMENT", "a buffer of " + std::to_string(buffer.size()) +
                                        " bytes may not hold one page record: expected at least " +
                                        std::to_string(kMaxRecordBytes));
  }
  Output output(buffer);
  while (block_ < blocks_.size()) {
    write_block(*lock(blocks_[block_]), output);
    if (offset_ < blocks_[block_].length) return {output.used(), false};
    ++block_;
    offset_ = 0;
    named_ = false;
  }
  return {output.used(), true};
}

void PageWriter::write_block(const Mapping& mapping, Output& output) {
  ExtentCursor cursor(mapping, offset_, blocks_[block_].length - offset_);
  for (Extent extent; cursor.next(&extent);) {
    write_extent(mapping, extent.range, extent.is_hole, output);
    if (offset_ < extent.range.end()) return;  // no room
  }
}

void PageWriter::write_extent(const Mapping& mapping, const Range& range, bool is_hole, Output& output) {
  // Map what the buffer has room for, not a whole extent that later calls will reach.
  uint64_t mapped_to = offset_;
  while (offset_ < range.end()) {
    if (!is_hole && offset_ >= mapped_to) {
      const uint64_t length =
          std::min(std::max<uint64_t>(output.room(), kTargetPageSize), range.end() - offset_);
      fault_in(mapping, {offset_, length});
      mapped_to = offset_ + length;
    }
    if (!write_page(is_hole ? nullptr : mapping.data() + offset_, output)) return;
    offset_ += kTargetPageSize;
  }
}

// page: nullptr for a hole. False: no room, nothing was written.
bool PageWriter::write_page(const uint8_t* page, Output& output) {
  const std::string& name = blocks_[block_].name;
  const bool zero = page == nullptr || is_zero(page, kTargetPageSize);
  const size_t header = 8 + (named_ ? 0 : 1 + name.size());
  if (output.room() < header + (zero ? 1 : kTargetPageSize)) return false;
  const uint64_t flags = (zero ? kFlagZero : kFlagPage) | (named_ ? kFlagContinue : uint64_t{0});
  output.put_be64(offset_ | flags);
  if (!named_) {
    output.put_byte(name.size());
    output.put(name.data(), name.size());
    named_ = true;
  }
  if (zero) {
    output.put_byte(0);
    zero_pages_.fetch_add(1, std::memory_order_relaxed);
  } else {
    output.put(page, kTargetPageSize);
  }
  pages_.fetch_add(1, std::memory_order_relaxed);
  return true;
}

}  // namespace rdma_migrate::memory
