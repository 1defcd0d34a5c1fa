// Payload on its way into registered memory: from the socket right into place, from the buffer by copying, or
// from the buffer through the file that the memory is mapped from.
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "iwarp/receiver.h"
#include "memory/guarded.h"

namespace rdma_migrate::iwarp {
namespace {

uint8_t* pointer_to(uint64_t address) { return reinterpret_cast<uint8_t*>(static_cast<uintptr_t>(address)); }

void copy_into_place(uint64_t address, const void* from, size_t size) {
  uint8_t* to = pointer_to(address);
  if (!memory::guarded([=] { std::memcpy(to, from, size); }))
    throw PlacementFault{memory::fault_error(memory::fault_address(), "write to")};
}

}  // namespace

bool Receiver::take_payload() {
  if (stores_) {
    add_to_run();
  } else {
    place_buffered();
  }
  if (left_ != 0 && reads_ahead()) return pull(RxBuffer::kWideSize);
  if (left_ != 0 && !receive_payload()) return false;
  if (left_ == 0) phase_ = Phase::kTrailer;
  return true;
}

void Receiver::place_buffered() {
  const size_t size = std::min(buffer_.available(), left_);
  if (size == 0) return;
  {
    OpenSection section(section_, messages_.regions.get());
    recheck(target_);
    prepare(size);
    copy_into_place(target_.address, buffer_.data(), size);
    note_placed(target_, size);
  }
  take(size);
  note_payload(size);
}

// The payload of the FPDU in hand, and in the same call its trailer and the next header of the same kind.
// False: dry, or the end of the stream.
bool Receiver::receive_payload() {
  if (!may_read()) return false;
  buffer_.clear();
  const size_t next = fpdu_pad(ulpdu_) + kCrcSize + kFpduLengthSize + ddp_header_size(header_.tagged);
  iovec parts[2] = {{pointer_to(target_.address), left_}, {buffer_.room(), next}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  OpenSection section(section_, messages_.regions.get());
  recheck(target_);
  prepare(left_);
  const ssize_t got = recvmsg(socket_, &message, MSG_DONTWAIT);
  if (got < 0 && errno == EFAULT) throw PlacementFault{memory::fault_error(target_.address, "write to")};
  const size_t received = note_received(got, left_ + next);
  if (received == 0) return false;
  const size_t placed = std::min(received, left_);
  note_placed(target_, placed);
  buffer_.filled(received - placed);
  // What has been placed may be gone again by now.
  const uint8_t* at = pointer_to(target_.address);
  if (crc_on_ && !memory::guarded([&] { add_crc(at, placed); }))
    throw PlacementFault{memory::fault_error(memory::fault_address(), "read")};
  note_payload(placed);
  return true;  // short or not: only the next call knows whether more is there, or the end
}

// Whether the WRITE in hand goes to pages that hold nothing yet.
bool Receiver::finds_fresh_pages() {
  if (target_.region.backing == nullptr) return false;
  OpenSection section(section_, messages_.regions.get());
  return messages_.regions->generation() == target_.generation &&
         target_.region.backing->is_fresh(target_.address);
}

bool Receiver::continues_run() const {
  return stores_ && !run_.empty() && run_at_.region.stag == target_.region.stag &&
         run_at_.generation == target_.generation && run_at_.address + run_.size() == target_.address;
}

void Receiver::add_to_run() {
  const size_t size = std::min(buffer_.available(), left_);
  if (size == 0) return;
  if (run_.is_full()) flush();
  if (run_.empty()) run_at_ = target_;
  run_.add(buffer_.data(), size);
  run_of_fpdu_ += size;
  take(size);
  note_payload(size);
}

// Before anything that depends on what has come, and before the buffer is used again.
void Receiver::flush() {
  const uint64_t untold = std::exchange(untold_size_, 0);
  if (!run_.empty()) store_run();
  if (untold != 0) tell_placed(untold_, untold);
}

void Receiver::store_run() {
  const StoredRun run = std::exchange(run_, {});
  const bool of_fpdu_in_hand = std::exchange(run_of_fpdu_, 0) != 0;
  OpenSection section(section_, messages_.regions.get());
  try {
    recheck(run_at_);
  } catch (const WireFault&) {
    // The header in hand is another's: a TERMINATE that shows it would accuse the wrong segment.
    if (!of_fpdu_in_hand) raw_header_size_ = 0;
    throw;
  }
  uint64_t skip = 0;
  try {
    skip = run_at_.region.backing->store(run_at_.address, run.pieces());
  } catch (const Error& error) {
    throw PlacementFault{error};
  }
  uint64_t at = run_at_.address;
  for (const iovec& piece : run.pieces()) {
    const uint64_t stored = std::min<uint64_t>(skip, piece.iov_len);
    const auto* rest = static_cast<const uint8_t*>(piece.iov_base) + stored;
    if (stored != piece.iov_len) copy_into_place(at + stored, rest, piece.iov_len - stored);
    skip -= stored;
    at += piece.iov_len;
  }
  note_placed(run_at_, run.size());
}

// A WRITE's segment is whole: pad and CRC are good.
void Receiver::end_write() {
  if (payload_ == 0) return;
  if (!stores_) return tell_placed(header_.target_offset, payload_);
  if (untold_size_ == 0) untold_ = header_.target_offset;
  untold_size_ += payload_;
}

void Receiver::tell_placed(uint64_t address, uint64_t size) {
  if (fabric::PlacementObserver* observer = messages_.regions->placement()) observer->placed(address, size);
}

// Inside the section that places them.
void Receiver::prepare(size_t size) {
  if (target_.region.backing != nullptr) target_.region.backing->prepare(target_.address, size);
}

// Inside the section that placed them: whoever revokes the rights then knows of every byte that landed.
void Receiver::note_placed(const Target& target, size_t size) {
  if (target.right == fabric::kAccessRemoteWrite && !messages_.log.on())  // else see count_write()
    messages_.counters.write_bytes_placed.fetch_add(size, std::memory_order_relaxed);
  if (target.region.backing != nullptr) target.region.backing->touched(target.address, size);
}

// Inside an open section: with the generation unchanged, who takes the region away waits for the section.
void Receiver::recheck(const Target& target) const {
  if (messages_.regions->generation() == target.generation) return;
  const std::optional<Region> region = messages_.regions->find(target.region.stag);
  if (region && (region->access & target.right) == target.right) return;
  throw make_fault(target.gone, "the memory region of a message was deregistered while the message arrived");
}

void Receiver::note_payload(size_t size) {
  target_.address += size;
  left_ -= size;
  if (!records_) watch_.moved(size);  // records move it as they come
  messages_.counters.payload_received.fetch_add(size, std::memory_order_relaxed);
}

}  // namespace rdma_migrate::iwarp
