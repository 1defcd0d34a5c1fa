#include "iwarp/rx_stream.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "iwarp/crc32c.h"
#include "iwarp/wait.h"
#include "memory/guarded.h"

namespace rdma_migrate::iwarp {
namespace {

class OpenSection {
 public:
  explicit OpenSection(IoSection& section) : section_(section) { section_.enter(); }
  ~OpenSection() { section_.leave(); }
  OpenSection(const OpenSection&) = delete;
  OpenSection& operator=(const OpenSection&) = delete;

 private:
  IoSection& section_;
};

uint8_t* pointer_to(uint64_t address) { return reinterpret_cast<uint8_t*>(static_cast<uintptr_t>(address)); }

}  // namespace

bool RxStream::fill(size_t size) {
  while (available() < size) {
    if (head_ != 0) {
      std::memmove(buffer_.data(), data(), available());
      tail_ = available();
      head_ = 0;
    }
    size_t wanted = read_ahead_ ? kBufferSize - tail_ : size - tail_;
    ssize_t got = recv(link_.socket.get(), buffer_.data() + tail_, wanted, MSG_DONTWAIT);
    if (got > 0) {
      tail_ += static_cast<size_t>(got);
      link_.counters.bytes_received.fetch_add(static_cast<uint64_t>(got), std::memory_order_relaxed);
    } else if (got == 0) {
      if (idle()) return false;
      fail_truncated();
    } else if (errno == EAGAIN || errno == EINTR) {
      wait();
    } else {
      fail(errno);
    }
  }
  return true;
}

void RxStream::begin_fpdu() {
  in_fpdu_ = true;
  crc_ = 0;
}

void RxStream::consume(size_t size) {
  add_crc(data(), size);
  head_ += size;
}

void RxStream::place(const Target& target, size_t size, size_t next) {
  uint64_t address = target.address;
  place_buffered(target, address, size);
  next = std::min(next, kBufferSize);
  while (size != 0) {
    // What one call of a busy peer brings must not keep close() waiting.
    if (link_.stopping.load(std::memory_order_relaxed)) throw Stopped{};
    size_t placed = receive_into(target, address, size, next);
    address += placed;
    size -= placed;
    note_payload(placed);
    if (placed == 0) wait();
  }
}

void RxStream::place_buffered(const Target& target, uint64_t& address, size_t& size) {
  size_t buffered = std::min(available(), size);
  if (buffered == 0) return;
  {
    OpenSection section(link_.stags->receiving);
    recheck(target);
    if (!safe_copy_.copy(pointer_to(address), data(), buffered))
      throw memory::fault_error(address, "write to");
    count_placed(target, buffered);
  }
  consume(buffered);
  note_payload(buffered);
  address += buffered;
  size -= buffered;
}

size_t RxStream::receive_into(const Target& target, uint64_t address, size_t size, size_t next) {
  head_ = tail_ = 0;
  iovec parts[2] = {{pointer_to(address), size}, {buffer_.data(), next}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  OpenSection section(link_.stags->receiving);
  recheck(target);
  ssize_t got = recvmsg(link_.socket.get(), &message, MSG_DONTWAIT);
  if (got == 0) fail_truncated();
  if (got < 0) {
    if (errno == EAGAIN || errno == EINTR) return 0;
    if (errno == EFAULT) throw memory::fault_error(address, "write to");
    fail(errno);
  }
  auto received = static_cast<size_t>(got);
  link_.counters.bytes_received.fetch_add(received, std::memory_order_relaxed);
  size_t placed = std::min(received, size);
  count_placed(target, placed);
  tail_ = received - placed;
  // What has been placed may be gone again by now.
  if (link_.crc && !memory::guarded([&] { add_crc(pointer_to(address), placed); }))
    throw memory::fault_error(memory::fault_address(), "read");
  return placed;
}

// Inside the section that placed them: whoever revokes the rights then knows of every byte that landed.
void RxStream::count_placed(const Target& target, size_t size) {
  if (target.right == fabric::kAccessRemoteWrite)
    link_.counters.write_bytes_placed.fetch_add(size, std::memory_order_relaxed);
}

// Inside an open section: when the generation still fits, remove() waits for the section.
void RxStream::recheck(const Target& target) const {
  if (link_.stags->generation() == target.generation) return;
  std::optional<Region> region = link_.stags->find(target.region.stag);
  if (region && (region->access & target.right) == target.right) return;
  throw make_fault(target.gone, "the memory region of a message was deregistered while the message arrived");
}

void RxStream::finish_fpdu(size_t ulpdu) {
  size_t pad = fpdu_pad(ulpdu);
  fill(pad + kCrcSize);
  consume(pad);
  uint32_t expected = load_crc(data());
  head_ += kCrcSize;
  in_fpdu_ = false;
  if (link_.crc && expected != crc_) {
    throw make_fault(TerminateCode::kMpaCrc, "the CRC32C of an FPDU of " + std::to_string(ulpdu) +
                                                 " bytes does not match; data is damaged on its way from " +
                                                 link_.peer);
  }
}

void RxStream::note_payload(size_t size) {
  watch_.moved(size);
  link_.counters.payload_received.fetch_add(size, std::memory_order_relaxed);
}

void RxStream::add_crc(const uint8_t* data, size_t size) {
  if (link_.crc) crc_ = crc32c({data, size}, crc_);
}

void RxStream::expect_more(bool expected) {
  expecting_ = expected;
  if (watch_.running() && !expected && link_.pending_reads.empty()) watch_.end();
}

void RxStream::wait() {
  for (;;) {
    Clock::time_point now = Clock::now();
    check_deadlines();
    check_stall(now);
    // READs of ours may become due while this thread waits with nothing due, so it looks now and then.
    Clock::time_point until = watch_.next_look(now);
    if (std::optional<Clock::time_point> by = link_.drain_deadline()) until = std::min(until, *by);
    if (deadline_) until = std::min(until, *deadline_);
    if (wait_for(link_.socket.get(), POLLIN, link_.receiver_wake, link_.stopping, until) == Waited::kReady)
      return;
  }
}

void RxStream::check_deadlines() {
  if (std::optional<Error> error = link_.local_sender_error()) throw *error;
  if (deadline_ && Clock::now() >= *deadline_) {
    throw Error(
        "TIMEOUT",
        link_.peer + " asked for peer-to-peer setup but has not sent its ready-to-receive message in time");
  }
  check_drain();
}

void RxStream::check_stall(Clock::time_point now) {
  if (idle() && !expecting_ && link_.pending_reads.empty()) return watch_.end();
  watch_.begin(now);
  if (!watch_.stalled(now)) return;
  throw Error("TIMEOUT", link_.peer + " has sent nothing, or next to nothing, for " +
                             std::to_string(link_.options.stall_timeout_ms) +
                             " ms in the middle of a message; check the peer and the network");
}

void RxStream::check_drain() const {
  std::optional<Clock::time_point> by = link_.drain_deadline();
  if (!by || Clock::now() < *by) return;
  int unacknowledged = 0;
  // The end of the stream counts as a byte.
  bool taken = link_.fin_sent.load() && ioctl(link_.socket.get(), SIOCOUTQ, &unacknowledged) == 0 &&
               unacknowledged <= 1;
  if (taken) throw Stopped{};
  throw Error("TIMEOUT", link_.peer + " has not taken the last messages within " +
                             std::to_string(link_.options.stall_timeout_ms) + " ms of the disconnect");
}

void RxStream::discard_until(Clock::time_point deadline) {
  for (;;) {
    ssize_t got = recv(link_.socket.get(), buffer_.data(), kBufferSize, MSG_DONTWAIT | MSG_TRUNC);
    if (got == 0) return;
    if (got < 0 && errno != EAGAIN && errno != EINTR) return;
    if (Clock::now() >= deadline || link_.stopping.load()) return;
    if (got < 0) wait_for(link_.socket.get(), POLLIN, link_.receiver_wake, link_.stopping, deadline);
  }
}

void RxStream::fail(int error_number) const {
  if (error_number == ETIMEDOUT) {
    throw Error("CONNECTION_LOST",
                link_.peer + " does not answer any more; check that its host and the network are up",
                error_number);
  }
  throw Error("CONNECTION_LOST",
              "the connection to " + link_.peer + " broke; see the peer's log for the reason", error_number);
}

void RxStream::fail_truncated() const {
  link_.truncated.store(true);
  throw Error(
      "CONNECTION_LOST",
      link_.peer + " ended the connection in the middle of a message; see the peer's log for the reason");
}

}  // namespace rdma_migrate::iwarp
