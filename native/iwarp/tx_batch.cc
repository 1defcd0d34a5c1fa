#include "iwarp/tx_batch.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "iwarp/crc32c.h"
#include "memory/guarded.h"

namespace rdma_migrate::iwarp {
namespace {

const uint8_t* pointer_to(uint64_t address) {
  return reinterpret_cast<const uint8_t*>(static_cast<uintptr_t>(address));
}

}  // namespace

TxBatch::TxBatch() : scratch_(kMaxFpdus * kScratchPerFpdu) {}

void TxBatch::begin(const RegionTable& regions, IoSection& section, bool crc, RecordWriter* records) {
  regions_ = &regions;
  section_ = &section;
  crc_ = crc;
  if (crc_) copies_.resize(kMaxBytes);
  records_ = records;
  if (records_ != nullptr && !sealed_) sealed_ = std::make_unique<RecordBatch>(kMaxBytes + scratch_.size());
  if (sealed_) sealed_->drop_to(0);
  scratch_used_ = payload_bytes_ = fpdus_ = first_ = 0;
  unreadable_ = 0;
  iov_.clear();
  uses_.clear();
}

bool TxBatch::fits(size_t payload) const {
  return fpdus_ < kMaxFpdus && payload_bytes_ + payload <= kMaxBytes;
}

TxBatch::Appended TxBatch::append(const DdpHeader& header, const Source& source, size_t size) {
  if (records_ != nullptr) return append_copy(header, source, size);
  uint8_t* head = scratch_.data() + scratch_used_;
  size_t head_size = encode_fpdu_header(header, size, head);
  const uint8_t* payload = nullptr;
  uint32_t crc = crc_ ? crc32c({head, head_size}) : 0;
  if (Appended staged = stage(source, size, head + head_size, payload, crc); staged != Appended::kOk)
    return staged;
  size_t inline_size = source.stag == 0 ? size : 0;
  size_t pad = fpdu_pad(head_size - kFpduLengthSize + size);
  uint8_t* trailer = head + head_size + inline_size;
  std::memset(trailer, 0, pad + kCrcSize);
  if (crc_) store_crc(trailer + pad, crc32c({trailer, pad}, crc));
  add_piece(head, head_size);
  add_piece(payload, size);
  add_piece(trailer, pad + kCrcSize);
  scratch_used_ += head_size + inline_size + pad + kCrcSize;
  payload_bytes_ += size;
  ++fpdus_;
  return Appended::kOk;
}

TxBatch::Appended TxBatch::append_copy(const DdpHeader& header, const Source& source, size_t size) {
  const size_t before = sealed_->size();
  uint8_t head[kMaxHeaderSize];
  const size_t head_size = encode_fpdu_header(header, size, head);
  sealed_->add(head, head_size);
  if (Appended copied = copy_payload(source, size); copied != Appended::kOk) {
    sealed_->drop_to(before);
    return copied;
  }
  constexpr uint8_t kNoCrc[kMaxTrailerSize] = {};
  const size_t trailer_size = fpdu_pad(head_size - kFpduLengthSize + size) + kCrcSize;
  sealed_->add(kNoCrc, trailer_size);
  scratch_used_ += head_size + trailer_size;
  payload_bytes_ += size;
  ++fpdus_;
  return Appended::kOk;
}

TxBatch::Appended TxBatch::copy_payload(const Source& source, size_t size) {
  const uint8_t* memory = pointer_to(source.address);
  if (source.stag == 0) {
    sealed_->add(memory, size);
    return Appended::kOk;
  }
  section_->enter(regions_);
  const bool good = regions_->generation() == source.generation || still_good(source, size);
  const bool read = good && memory::guarded([&] { sealed_->add(memory, size); });
  section_->leave();
  if (!good) return Appended::kDeregistered;
  if (read) return Appended::kOk;
  unreadable_ = memory::fault_address();
  return Appended::kUnreadable;
}

void TxBatch::append_end() {
  sealed_->end();
  ++fpdus_;
}

// Everything at once: what is sealed is in the second cache still.
void TxBatch::seal() {
  const std::span<const uint8_t> records = sealed_->seal(*std::exchange(records_, nullptr));
  add_piece(records.data(), records.size());
}

// payload: where it is to be sent from. crc: goes on over it.
TxBatch::Appended TxBatch::stage(const Source& source, size_t size, uint8_t* scratch, const uint8_t*& payload,
                                 uint32_t& crc) {
  const uint8_t* memory = pointer_to(source.address);
  payload = scratch;
  if (source.stag == 0) {
    if (size != 0) std::memcpy(scratch, memory, size);
    if (crc_) crc = crc32c({scratch, size}, crc);
    return Appended::kOk;
  }
  if (!crc_) {
    // The oldest check of the batch counts.
    generation_ = uses_.empty() ? source.generation : std::min(generation_, source.generation);
    uses_.push_back({source, size});
    payload = memory;
    return Appended::kOk;
  }
  uint8_t* copy = copies_.data() + payload_bytes_;
  payload = copy;
  section_->enter(regions_);
  bool good = regions_->generation() == source.generation || still_good(source, size);
  bool read = good && memory::guarded([&] { crc = crc32c_copy(copy, {memory, size}, crc); });
  section_->leave();
  if (good && !read) unreadable_ = memory::fault_address();
  if (!good) return Appended::kDeregistered;
  return read ? Appended::kOk : Appended::kUnreadable;
}

// Neighbours become one: a trailer and the next header always, often the payload of small copies too.
void TxBatch::add_piece(const void* data, size_t size) {
  if (size == 0) return;
  if (!iov_.empty()) {
    iovec& last = iov_.back();
    if (static_cast<uint8_t*>(last.iov_base) + last.iov_len == data) {
      last.iov_len += size;
      return;
    }
  }
  iov_.push_back({const_cast<void*>(data), size});
}

bool TxBatch::still_good(const Source& source, size_t size) const {
  std::optional<Region> region = regions_->find(source.stag);
  return region && (region->access & source.right) == source.right &&
         region->covers_local(source.address, size);
}

bool TxBatch::recheck() {
  uint64_t now = regions_->generation();
  if (now == generation_) return true;
  for (const Use& use : uses_) {
    if (!still_good(use.source, use.size)) return false;
  }
  generation_ = now;
  return true;
}

// Again after a part has left: what stopped it may have been memory that cannot be read, and not the socket,
// of which epoll would tell.
TxBatch::Outcome TxBatch::send(int socket, uint64_t& bytes_sent) {
  if (records_ != nullptr) seal();
  while (first_ < iov_.size()) {
    msghdr message{};
    message.msg_iov = iov_.data() + first_;
    message.msg_iovlen = iov_.size() - first_;
    section_->enter(regions_);
    const bool good = uses_.empty() || recheck();
    const ssize_t sent = good ? sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
    error_number_ = sent < 0 ? errno : 0;
    section_->leave();
    if (!good) return Outcome::kDeregistered;
    if (sent < 0 && error_number_ == EINTR) continue;
    if (sent < 0) return error_number_ == EAGAIN ? Outcome::kWouldBlock : Outcome::kFailed;
    bytes_sent += static_cast<uint64_t>(sent);
    advance(static_cast<size_t>(sent));
  }
  return Outcome::kDone;
}

void TxBatch::advance(size_t sent) {
  for (; first_ < iov_.size() && sent >= iov_[first_].iov_len; ++first_) sent -= iov_[first_].iov_len;
  if (sent == 0) return;
  iov_[first_].iov_base = static_cast<uint8_t*>(iov_[first_].iov_base) + sent;
  iov_[first_].iov_len -= sent;
}

uint64_t TxBatch::fault_address() const {
  if (unreadable_ != 0) return unreadable_;
  if (first_ >= iov_.size()) return 0;
  const iovec& piece = iov_[first_];
  auto base = reinterpret_cast<const uint8_t*>(piece.iov_base);
  bool scratch = base >= scratch_.data() && base < scratch_.data() + scratch_.size();
  const iovec& culprit = scratch && first_ + 1 < iov_.size() ? iov_[first_ + 1] : piece;
  return reinterpret_cast<uintptr_t>(culprit.iov_base);
}

}  // namespace rdma_migrate::iwarp
