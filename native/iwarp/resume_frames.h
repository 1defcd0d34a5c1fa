// What the ends of a resumable queue pair say to each other: in the private data of MPA frames, and as RDMAP
// messages of opcode 0xF on a DDP queue of their own. Pure: nothing here knows a socket or a queue pair.
//
//   first carrier   MPA request: the caller's private data, then a tail that asks, unless its user has asked
//                   MPA reply: the caller's private data, then a tail {id, ticket}
//   new carrier     MPA request and reply: ATTACH {id, epoch, nonce}
//                   then RESUME from who has dialled, RESUMED from who has answered
//   at any time     ACK; END, before the stream is ended in good order; what move_frames.h has
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "crypto/secret.h"
#include "fabric/types.h"
#include "iwarp/ddp.h"

namespace rdma_migrate::iwarp {

using Bits128 = std::array<uint8_t, 16>;
// From the kernel. Throws Error INTERNAL.
Bits128 random_bits();

// The key of every MAC. It never travels on a later carrier.
using Ticket = crypto::WipedBytes<32>;
Ticket random_ticket();

// At the end of the request's private data: its sender would have the queue pair resumable.
constexpr size_t kAskTailSize = 12;
void append_ask(fabric::Bytes& private_data);
// At the end of the reply's: it is. The responder has drawn both.
struct ResumeTail {
  Bits128 id{};  // of the queue pair
  Ticket ticket;
};
constexpr size_t kResumeTailSize = kAskTailSize + 16 + 32;
void append_tail(const ResumeTail& tail, fabric::Bytes& private_data);
// Take the tail off, if there is one.
bool take_ask(fabric::Bytes& private_data);
std::optional<ResumeTail> take_tail(fabric::Bytes& private_data);

struct Attach {
  Bits128 id{};
  uint64_t epoch = 0;  // of the carrier that is offered; each one is higher than those before
  Bits128 nonce{};
};
fabric::Bytes encode_attach(const Attach& attach);
std::optional<Attach> decode_attach(std::span<const uint8_t> private_data);
// Private data of a rejection: this process has no such queue pair.
fabric::Bytes encode_unknown();
bool is_unknown(std::span<const uint8_t> private_data);

// Where an end stands.
struct Positions {
  uint64_t rx_seq = 0;   // messages of the peer's that have come, whole and good
  uint64_t tx_next = 1;  // the number of the next message of its own
};

enum class Control : uint8_t {
  kAck = 1,
  kResume = 2,
  kResumed = 3,
  kEnd = 4,
  // move_frames.h
  kPrepare = 5,
  kPrepared = 6,
  kStop = 7,
  kStopped = 8,
  kAbort = 9,
  kAborted = 10,
};
constexpr size_t kControlHeadSize = 4;  // kind, then zeros
constexpr size_t kAckSize = kControlHeadSize + 8;
constexpr size_t kEndSize = kControlHeadSize;
constexpr size_t kResumeSize = kControlHeadSize + 3 * 8 + 32;
constexpr size_t kResumeUlpdu = kUntaggedSize + kResumeSize;
constexpr size_t kResumeFpdu = fpdu_size(kResumeUlpdu);

DdpHeader control_header(uint32_t msn);
// The message's kind, in front of its fields, and the zeros after it. Nothing: there is no room for it, or
// the zeros are none.
void append_control_head(Control kind, fabric::Bytes& payload);
std::optional<Control> control_kind(std::span<const uint8_t> payload);
void encode_ack(uint64_t rx_seq, std::span<uint8_t, kAckSize> out);
void encode_end(std::span<uint8_t, kEndSize> out);
// Nothing: no known message, or one of a wrong length. RESUME and RESUMED are not for the middle of a stream.
struct ControlMessage {
  Control kind = Control::kAck;
  uint64_t rx_seq = 0;
};
std::optional<ControlMessage> decode_control(std::span<const uint8_t> payload);

// A whole FPDU, always with its CRC. asked: the nonce of the ATTACH in the request; answered: in the reply.
struct ResumeContext {
  Ticket ticket;
  Bits128 id{};
  uint64_t epoch = 0;
  Bits128 asked{};
  Bits128 answered{};
};
fabric::Bytes encode_resume(Control kind, const ResumeContext& context, const Positions& positions);
// Nothing: it is not what who knows the ticket says to these two ATTACHes.
std::optional<Positions> decode_resume(Control kind, const ResumeContext& context,
                                       std::span<const uint8_t> fpdu);

}  // namespace rdma_migrate::iwarp
