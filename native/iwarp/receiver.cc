// The stream: bytes off the socket, FPDU by FPDU.
#include "iwarp/receiver.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "iwarp/crc32c.h"

namespace rdma_migrate::iwarp {
namespace {

// Below it a system call costs more than copying its bytes. FPDUs of one Ethernet frame are below it.
constexpr size_t kSmallFpdu = 2048;

}  // namespace

void Receiver::open(int socket, bool crc, bool awaits_ready) {
  socket_ = socket;
  crc_on_ = crc;
  awaits_ready_ = awaits_ready;
}

Receiver::Went Receiver::receive(size_t budget) {
  budget_ = budget;
  dry_ = held_ = false;
  bool more = true;
  try {
    while ((more = step()) && !became_ready_ && (budget_ != 0 || finishes_buffer())) continue;
    flush();
  } catch (const WireFault&) {
    flush();  // what came before it was good
    throw;
  }
  more = more || is_turn_over();
  buffer_.narrow();
  if (records_) records_->stream().narrow();
  if (std::exchange(became_ready_, false)) return Went::kReady;
  if (more) return Went::kOn;
  buffer_.rest();
  if (records_) records_->stream().rest();
  if (held_) return Went::kHeld;
  if (!eof_) return Went::kDry;
  if (phase_ != Phase::kHeader || buffer_.available() != 0 || in_message() ||
      (records_ && records_->waiting() != 0))
    fail_truncated("ended the connection in the middle of a message; see the peer's log for the reason");
  // Anybody on the way can end a stream; close_notify only the peer can say.
  if (records_ && !records_->ended()) {
    fail_truncated(
        "ended without saying so: it was killed, or somebody on the way cut the connection; see the peer's "
        "log");
  }
  return Went::kEnded;
}

// False: nothing can be done for now.
bool Receiver::step() {
  switch (phase_) {
    case Phase::kHeader:
      return take_header();
    case Phase::kPayload:
      return take_payload();
    case Phase::kInline:
      return take_inline();
    case Phase::kTrailer:
      return take_trailer();
  }
  return false;
}

// There may be more in the socket, but what is in a wide buffer, or in records that have come, has been taken
// first, as far as it goes: nothing of it can wait there for the next turn.
bool Receiver::is_turn_over() const { return budget_ == 0 && finishes_buffer() && !dry_ && !eof_; }

// One system call into the buffer. False: dry, or the end of the stream.
bool Receiver::pull(size_t wanted) {
  if (records_) return pull_records();
  if (!may_read()) return false;
  flush();  // it lies in the buffer
  if (stores_) buffer_.widen();
  uint8_t* room = buffer_.room();
  wanted = std::min(wanted, buffer_.free());
  const size_t received = note_received(recv(socket_, room, wanted, MSG_DONTWAIT), wanted);
  buffer_.filled(received);
  return received != 0;
}

// What a receiving call gave. 0: dry, or the end of the stream.
size_t Receiver::note_received(ssize_t got, size_t wanted) {
  if (got == 0) eof_ = true;
  if (got < 0 && errno == EAGAIN) dry_ = true;
  if (got < 0 && errno != EAGAIN && errno != EINTR) fail(errno);
  if (got <= 0) return 0;
  const auto received = static_cast<size_t>(got);
  messages_.counters.bytes_received.fetch_add(received, std::memory_order_relaxed);
  budget_ -= std::min(budget_, received);
  // In the middle of bulk payload more has often come meanwhile, and asking costs less than to sleep and be
  // woken.
  dry_ = received < wanted && !end_is_near_ && phase_ != Phase::kPayload && !stores_;
  return received;
}

// FPDUs that are small cost less when many come with one system call, and are copied once more. What is
// stored by file is copied from the buffer in any case.
bool Receiver::reads_ahead() const { return records_ || !header_.tagged || ulpdu_ <= kSmallFpdu || stores_; }

// At least size bytes are in the buffer. Small messages are read ahead as far as the buffer goes; of bulk
// payload nothing should pass through it, so after a large tagged FPDU only the next header comes along.
bool Receiver::have(size_t size) {
  while (buffer_.available() < size) {
    const size_t missing = size - buffer_.available();
    const size_t along = phase_ == Phase::kTrailer ? kFpduLengthSize + kTaggedSize : 0;
    if (!pull(reads_ahead() ? RxBuffer::kWideSize : missing + along)) return false;
  }
  return true;
}

bool Receiver::take_header() {
  held_ = messages_.held.load(std::memory_order_relaxed);
  if (held_) look_for_end();
  if (held_) return false;
  // The whole header at once, of either kind: no FPDU is smaller than a tagged header and a trailer.
  constexpr size_t kLeast = fpdu_size(kTaggedSize);
  static_assert(kLeast >= kFpduLengthSize + kUntaggedSize);
  if (buffer_.available() < kFpduLengthSize) have(awaits_ready_ ? kFpduLengthSize : kLeast);
  if (!have(kFpduLengthSize)) return false;
  raw_header_size_ = 0;
  has_read_request_ = false;
  crc_ = 0;
  ulpdu_ = static_cast<size_t>(buffer_.data()[0] << 8 | buffer_.data()[1]);
  if (ulpdu_ == 0 && awaits_ready_) {
    // An empty FPDU is one of the forms of the ready-to-receive message (RFC 6581 section 9).
    if (!have(fpdu_size(0))) return false;
    take(kFpduLengthSize);
    left_ = payload_ = 0;
    header_ = {};
    phase_ = Phase::kTrailer;
    return true;
  }
  const std::string too_short = "an FPDU of " + std::to_string(ulpdu_) + " bytes has no room for a header";
  if (ulpdu_ < kTaggedSize) fault(TerminateCode::kMpaLength, too_short);
  if (!have(kFpduLengthSize + 1)) return false;
  const size_t size = ddp_header_size(ddp_is_tagged(buffer_.data()[kFpduLengthSize]));
  if (ulpdu_ < size) fault(TerminateCode::kMpaLength, too_short);
  if (!have(kFpduLengthSize + size)) return false;
  std::memcpy(raw_header_, buffer_.data() + kFpduLengthSize, size);
  raw_header_size_ = size;
  header_ = decode_ddp(raw_header_);
  left_ = payload_ = ulpdu_ - size;
  take(kFpduLengthSize + size);
  check_header();
  begin_message();
  if (!continues_run()) flush();
  return true;
}

// Held, and the peer has gone, with nothing left to take: nobody need hold that.
void Receiver::look_for_end() {
  if (!end_is_near_ || buffer_.available() != 0) return;
  uint8_t byte;
  const ssize_t got = recv(socket_, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  if (got < 0 && errno != EAGAIN && errno != EINTR) fail(errno);
  if (got == 0) eof_ = true;
  held_ = got != 0;
}

bool Receiver::take_inline() {
  if (!have(left_)) return false;
  inline_.assign(buffer_.data(), buffer_.data() + left_);
  take(left_);
  left_ = 0;
  phase_ = Phase::kTrailer;
  return true;
}

bool Receiver::take_trailer() {
  const size_t pad = fpdu_pad(ulpdu_);
  if (!have(pad + kCrcSize)) return false;
  take(pad);
  const uint32_t expected = load_crc(buffer_.data());
  buffer_.consume(kCrcSize);
  if (crc_on_ && expected != crc_) {
    run_.drop(std::exchange(run_of_fpdu_, 0));  // as much of it as has not been stored
    throw make_fault(TerminateCode::kMpaCrc, "the CRC32C of an FPDU of " + std::to_string(ulpdu_) +
                                                 " bytes does not match; data is damaged on its way from " +
                                                 peer_);
  }
  phase_ = Phase::kHeader;
  const size_t size = fpdu_size(ulpdu_);
  if (size < kLeastCharge) budget_ -= std::min(budget_, kLeastCharge - size);
  end_message();
  if (!owes()) watch_.end();
  return true;
}

void Receiver::take(size_t size) {
  add_crc(buffer_.data(), size);
  buffer_.consume(size);
}

void Receiver::add_crc(const uint8_t* data, size_t size) {
  if (crc_on_) crc_ = crc32c({data, size}, crc_);
}

bool Receiver::owes() const {
  if (held_) return false;
  const bool in_record = records_ && records_->waiting() != 0;
  return phase_ != Phase::kHeader || buffer_.available() != 0 || in_record || in_message() ||
         !messages_.pending_reads.empty();
}

void Receiver::check_stall(Clock::time_point now) {
  if (!owes()) return watch_.end();
  watch_.begin(now);
  if (!watch_.stalled(now)) return;
  throw Error("TIMEOUT", peer_ + " has sent nothing, or next to nothing, for " +
                             std::to_string(messages_.options.stall_timeout_ms) +
                             " ms in the middle of a message; check the peer and the network");
}

std::optional<Clock::time_point> Receiver::next_look(Clock::time_point now) {
  if (!owes()) return std::nullopt;
  return watch_.next_look(now);
}

Receiver::Went Receiver::discard() {
  uint8_t scrap[16 * 1024];
  for (int round = 0; round < 64; ++round) {
    const ssize_t got = recv(socket_, scrap, sizeof scrap, MSG_DONTWAIT | MSG_TRUNC);
    if (got < 0 && errno == EAGAIN) return Went::kDry;
    if (got == 0 || (got < 0 && errno != EINTR)) return Went::kEnded;
  }
  return Went::kOn;
}

fabric::Bytes Receiver::terminate_payload(TerminateCode code) const {
  std::span<const uint8_t> read_request(inline_.data(), has_read_request_ ? inline_.size() : 0);
  return encode_terminate(code, {raw_header_, raw_header_size_}, static_cast<uint16_t>(ulpdu_), read_request);
}

void Receiver::fail(int error_number) const {
  throw Error("CONNECTION_LOST",
              error_number == ETIMEDOUT
                  ? peer_ + " does not answer any more; check that its host and the network are up"
                  : "the connection to " + peer_ + " broke; see the peer's log for the reason",
              error_number);
}

void Receiver::fail_truncated(const std::string& how) {
  truncated_ = true;
  throw Error("CONNECTION_LOST", peer_ + " " + how);
}

}  // namespace rdma_migrate::iwarp
