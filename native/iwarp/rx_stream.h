// The receiving half of the TCP stream. Headers and small messages pass through a buffer; payload goes from
// the socket into registered memory, in one system call with the trailer of its FPDU and the header of the
// next one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>

#include "fabric/progress_watch.h"
#include "iwarp/ddp.h"
#include "iwarp/link.h"
#include "iwarp/safe_copy.h"
#include "iwarp/terminate.h"

namespace rdma_migrate::iwarp {

// A checked place in registered memory, and how to check it again when a region has gone in the meantime.
struct Target {
  Region region;
  uint64_t generation = 0;
  uint64_t address = 0;
  unsigned right = 0;
  TerminateCode gone = TerminateCode::kTaggedInvalidStag;
};

class RxStream {
 public:
  explicit RxStream(Link& link) : link_(link), watch_(link.stall_timeout()) {}

  // Waits until size bytes (at most kBufferSize) are there. False: the peer has ended the stream, and between
  // FPDUs. Throws Stopped and Error: CONNECTION_LOST, TIMEOUT.
  bool fill(size_t size);
  const uint8_t* data() const { return buffer_.data() + head_; }

  // An FPDU starts at data(). Its bytes are consumed with consume() and place(), and checked with finish().
  void begin_fpdu();
  void consume(size_t size);
  // Moves the next size bytes to target. next: bytes worth reading behind them in the same call.
  void place(const Target& target, size_t size, size_t next);
  // Takes pad and CRC. Throws WireFault when the CRC is in use and wrong.
  void finish_fpdu(size_t ulpdu);

  // At the end of an FPDU. expected: more of the peer's is due, for its message has further segments.
  void expect_more(bool expected);
  // A message that the peer owed has come whole.
  void message_done() { watch_.end(); }
  // Throws Stopped and Error when disconnect() was called a stall timeout ago. For peers that never make this
  // thread wait.
  void check_drain() const;
  // Read ahead as far as the buffer goes; off, so that bulk payload does not pass through the buffer.
  void read_ahead(bool on) { read_ahead_ = on; }
  // The next bytes are due by then, or TIMEOUT; nothing: no such limit.
  void set_deadline(std::optional<Clock::time_point> deadline) { deadline_ = deadline; }
  // Throws away what the peer sends until it ends the stream or the deadline passes.
  void discard_until(Clock::time_point deadline);

  static constexpr size_t kBufferSize = 8192;

 private:
  size_t available() const { return tail_ - head_; }
  bool idle() const { return !in_fpdu_ && available() == 0; }
  void wait();
  void check_stall(Clock::time_point now);
  void check_deadlines();
  [[noreturn]] void fail(int error_number) const;
  [[noreturn]] void fail_truncated() const;
  void place_buffered(const Target& target, uint64_t& address, size_t& size);
  // One system call; the bytes that it placed, or 0 where the socket has nothing yet.
  size_t receive_into(const Target& target, uint64_t address, size_t size, size_t next);
  void count_placed(const Target& target, size_t size);
  void recheck(const Target& target) const;
  void note_payload(size_t size);
  void add_crc(const uint8_t* data, size_t size);

  Link& link_;
  fabric::ProgressWatch watch_;
  SafeCopy safe_copy_;
  std::array<uint8_t, kBufferSize> buffer_;
  size_t head_ = 0;
  size_t tail_ = 0;
  uint32_t crc_ = 0;
  bool in_fpdu_ = false;
  bool expecting_ = false;
  bool read_ahead_ = true;
  std::optional<Clock::time_point> deadline_;
};

}  // namespace rdma_migrate::iwarp
