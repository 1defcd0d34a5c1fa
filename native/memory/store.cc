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
  struct iovec* pieces = vector_.data();
  int count = pieces_;
  uint64_t at = offset_;
  const uint64_t end = offset_ + length_;
  pieces_ = 0;
  length_ = 0;
  const auto file = mapping_->file();
  while (count > 0) {
    const ssize_t written = pwritev(file.get(), pieces, count, static_cast<off_t>(at));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      throw mapping_->error("writing", {at, end - at}, Mapping::Access::kWrite, written == 0 ? EIO : errno);
    }
    at += static_cast<uint64_t>(written);
    advance(&pieces, &count, static_cast<size_t>(written));
  }
}

}  // namespace rdma_migrate::memory
