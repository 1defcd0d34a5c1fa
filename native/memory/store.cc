#include "memory/store.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace rdma_migrate::memory {
namespace {

constexpr size_t kZeros = 64 * 1024;
alignas(4096) const uint8_t zero_bytes[kZeros] = {};

// Drops `bytes` from the front of the pieces.
void advance(struct iovec** pieces, int* count, size_t bytes) {
  while (*count > 0 && bytes >= (*pieces)->iov_len) {
    bytes -= (*pieces)->iov_len;
    ++*pieces;
    --*count;
  }
  if (*count == 0) return;
  (*pieces)->iov_base = static_cast<uint8_t*>((*pieces)->iov_base) + bytes;
  (*pieces)->iov_len -= bytes;
}

void write_all(const Mapping& mapping, int file, const Range& range, struct iovec* pieces, int count) {
  uint64_t at = range.offset;
  while (count > 0) {
    const ssize_t written = pwritev(file, pieces, count, static_cast<off_t>(at));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      throw mapping.error("writing", {at, range.end() - at}, Mapping::Access::kWrite,
                          written == 0 ? EIO : errno);
    }
    at += static_cast<uint64_t>(written);
    advance(&pieces, &count, static_cast<size_t>(written));
  }
}

}  // namespace

void Store::data(uint64_t offset, std::span<const uint8_t> bytes) {
  if (bytes.empty()) return;
  if (!mapping_->stores_through_fd()) {
    std::memcpy(mapping_->data() + offset, bytes.data(), bytes.size());
    return;
  }
  if (pieces_ == kMaxPieces || (pieces_ > 0 && offset != offset_ + length_)) flush();
  if (pieces_ == 0) offset_ = offset;
  vector_[pieces_++] = {const_cast<uint8_t*>(bytes.data()), bytes.size()};
  length_ += bytes.size();
}

void Store::zeros(const Range& range) {
  for (uint64_t at = range.offset; at < range.end();) {
    const uint64_t length = std::min<uint64_t>(kZeros, range.end() - at);
    data(at, {zero_bytes, length});
    at += length;
  }
}

void Store::flush() {
  if (pieces_ == 0) return;
  const Range range{offset_, length_};
  const int count = pieces_;
  pieces_ = 0;
  length_ = 0;
  write_all(*mapping_, mapping_->file().get(), range, vector_.data(), count);
}

uint64_t store_pieces(const Mapping& mapping, uint64_t offset, std::span<const iovec> pieces) {
  // Twice what the software RNIC gathers; what is beyond goes into the mapping.
  constexpr size_t kMost = 64;
  struct iovec own[kMost];
  const uint64_t end = mapping.length_is_sealed() ? mapping.length() : mapping.length() - mapping.page_size();
  Range range{offset, 0};
  int count = 0;
  for (const iovec& piece : pieces.first(std::min(pieces.size(), kMost))) {
    if (range.end() >= end) break;
    own[count] = {piece.iov_base, std::min<uint64_t>(piece.iov_len, end - range.end())};
    range.length += own[count++].iov_len;
  }
  if (count == 0) return 0;
  bool opened = false;
  try {
    const auto file = mapping.file();
    opened = true;
    {
      std::lock_guard turn(mapping.store_turn());
      write_all(mapping, file.get(), range, own, count);
    }
    // While it is open: it need not be opened again for this.
    if (mapping.length_is_sealed() || !mapping.was_truncated(mapping.length())) return range.length;
  } catch (const Error&) {
    if (opened) throw;
    return 0;
  }
  throw mapping.error("writing", {offset, mapping.length() - offset}, Mapping::Access::kWrite, EFAULT);
}

}  // namespace rdma_migrate::memory
