#include "iwarp/resume_frames.h"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "crypto/hmac.h"
#include "error.h"
#include "iwarp/byte_order.h"
#include "iwarp/crc32c.h"

namespace rdma_migrate::iwarp {
namespace {

constexpr uint32_t kTailMagic = 0x524d5154;     // "RMQT"
constexpr uint32_t kAttachMagic = 0x524d5141;   // "RMQA"
constexpr uint32_t kUnknownMagic = 0x524d5155;  // "RMQU"
constexpr uint16_t kVersion = 1;
constexpr uint32_t kResumable = 1;  // the only flag
constexpr size_t kPrefixSize = 8;   // magic, version, length
constexpr size_t kAttachSize = kPrefixSize + 16 + 8 + 16;
constexpr size_t kMacSize = 32;

// Byte by byte: GCC 12 takes insert() into a new vector for an overflow.
void append(fabric::Bytes& bytes, std::span<const uint8_t> more) {
  for (const uint8_t byte : more) bytes.push_back(byte);
}

void append_prefix(fabric::Bytes& bytes, uint32_t magic, size_t size) {
  uint8_t prefix[kPrefixSize];
  store_be32(prefix, magic);
  store_be16(prefix + 4, kVersion);
  store_be16(prefix + 6, static_cast<uint16_t>(size));
  append(bytes, prefix);
}

bool has_prefix(std::span<const uint8_t> bytes, uint32_t magic) {
  return bytes.size() >= kPrefixSize && load_be32(bytes.data()) == magic &&
         load_be16(bytes.data() + 4) == kVersion && load_be16(bytes.data() + 6) == bytes.size();
}

void append64(fabric::Bytes& bytes, uint64_t value) {
  uint8_t encoded[8];
  store_be64(encoded, value);
  append(bytes, encoded);
}

Bits128 bits_at(const uint8_t* p) {
  Bits128 bits;
  std::copy_n(p, bits.size(), bits.begin());
  return bits;
}

void append_tail_head(fabric::Bytes& private_data, size_t size) {
  append_prefix(private_data, kTailMagic, size);
  uint8_t flags[4];
  store_be32(flags, kResumable);
  append(private_data, flags);
}

// Empty: there is none of that size.
std::span<const uint8_t> tail_of(std::span<const uint8_t> private_data, size_t size) {
  if (private_data.size() < size) return {};
  const std::span<const uint8_t> tail = private_data.last(size);
  return has_prefix(tail, kTailMagic) && load_be32(tail.data() + kPrefixSize) == kResumable
             ? tail
             : std::span<const uint8_t>{};
}

void fill_randomly(std::span<uint8_t> bytes) {
  if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
    throw Error("INTERNAL", "the kernel gives no random bytes", errno);
}

// fields: epoch and positions, as they travel.
crypto::Mac mac_of(Control kind, const ResumeContext& context, std::span<const uint8_t> fields) {
  const std::string_view label =
      kind == Control::kResume ? "rdma-migrate queue pair RESUME" : "rdma-migrate queue pair RESUMED";
  fabric::Bytes data(label.begin(), label.end());
  data.push_back(0);
  append(data, context.id);
  append(data, context.asked);
  append(data, context.answered);
  append(data, fields);
  return crypto::hmac_sha256(context.ticket.view(), data);
}

}  // namespace

Bits128 random_bits() {
  Bits128 bits;
  fill_randomly(bits);
  return bits;
}

Ticket random_ticket() {
  Ticket ticket;
  fill_randomly(ticket.view());
  return ticket;
}

void append_ask(fabric::Bytes& private_data) { append_tail_head(private_data, kAskTailSize); }

void append_tail(const ResumeTail& tail, fabric::Bytes& private_data) {
  append_tail_head(private_data, kResumeTailSize);
  append(private_data, tail.id);
  append(private_data, tail.ticket.view());
}

bool take_ask(fabric::Bytes& private_data) {
  if (tail_of(private_data, kAskTailSize).empty()) return false;
  private_data.resize(private_data.size() - kAskTailSize);
  return true;
}

std::optional<ResumeTail> take_tail(fabric::Bytes& private_data) {
  const std::span<const uint8_t> tail = tail_of(private_data, kResumeTailSize);
  if (tail.empty()) return std::nullopt;
  ResumeTail taken{bits_at(tail.data() + kAskTailSize), {}};
  std::copy_n(tail.data() + kAskTailSize + 16, taken.ticket.view().size(), taken.ticket.view().begin());
  private_data.resize(private_data.size() - kResumeTailSize);
  return taken;
}

fabric::Bytes encode_attach(const Attach& attach) {
  fabric::Bytes bytes;
  append_prefix(bytes, kAttachMagic, kAttachSize);
  append(bytes, attach.id);
  append64(bytes, attach.epoch);
  append(bytes, attach.nonce);
  return bytes;
}

std::optional<Attach> decode_attach(std::span<const uint8_t> private_data) {
  if (private_data.size() != kAttachSize || !has_prefix(private_data, kAttachMagic)) return std::nullopt;
  const uint8_t* p = private_data.data() + kPrefixSize;
  return Attach{bits_at(p), load_be64(p + 16), bits_at(p + 24)};
}

fabric::Bytes encode_unknown() {
  fabric::Bytes bytes;
  append_prefix(bytes, kUnknownMagic, kPrefixSize);
  return bytes;
}

bool is_unknown(std::span<const uint8_t> private_data) {
  return private_data.size() == kPrefixSize && has_prefix(private_data, kUnknownMagic);
}

DdpHeader control_header(uint32_t msn) {
  DdpHeader header;
  header.last = true;
  header.opcode = static_cast<uint8_t>(RdmapOpcode::kControl);
  header.queue = static_cast<uint32_t>(DdpQueue::kControl);
  header.msn = msn;
  return header;
}

void append_control_head(Control kind, fabric::Bytes& payload) {
  append(payload, std::array<uint8_t, kControlHeadSize>{static_cast<uint8_t>(kind)});
}

std::optional<Control> control_kind(std::span<const uint8_t> payload) {
  if (payload.size() < kControlHeadSize || (load_be32(payload.data()) & 0xffffff) != 0) return std::nullopt;
  return static_cast<Control>(payload[0]);
}

void encode_ack(uint64_t rx_seq, std::span<uint8_t, kAckSize> out) {
  store_be32(out.data(), uint32_t{static_cast<uint8_t>(Control::kAck)} << 24);
  store_be64(out.data() + kControlHeadSize, rx_seq);
}

void encode_end(std::span<uint8_t, kEndSize> out) {
  store_be32(out.data(), uint32_t{static_cast<uint8_t>(Control::kEnd)} << 24);
}

std::optional<ControlMessage> decode_control(std::span<const uint8_t> payload) {
  const std::optional<Control> kind = control_kind(payload);
  if (kind == Control::kEnd && payload.size() == kEndSize) return ControlMessage{*kind, 0};
  if (kind != Control::kAck || payload.size() != kAckSize) return std::nullopt;
  return ControlMessage{*kind, load_be64(payload.data() + kControlHeadSize)};
}

fabric::Bytes encode_resume(Control kind, const ResumeContext& context, const Positions& positions) {
  fabric::Bytes fields;
  append64(fields, context.epoch);
  append64(fields, positions.rx_seq);
  append64(fields, positions.tx_next);
  const crypto::Mac mac = mac_of(kind, context, fields);
  fabric::Bytes fpdu(kFpduLengthSize + kUntaggedSize);
  encode_fpdu_header(control_header(1), kResumeSize, fpdu.data());
  append_control_head(kind, fpdu);
  append(fpdu, fields);
  append(fpdu, mac);
  fpdu.resize(kResumeFpdu);
  store_crc(fpdu.data() + kResumeFpdu - kCrcSize, crc32c(std::span(fpdu).first(kResumeFpdu - kCrcSize)));
  return fpdu;
}

std::optional<Positions> decode_resume(Control kind, const ResumeContext& context,
                                       std::span<const uint8_t> fpdu) {
  if (fpdu.size() != kResumeFpdu) return std::nullopt;
  const uint8_t* p = fpdu.data() + kFpduLengthSize + kUntaggedSize + kControlHeadSize;
  const std::span<const uint8_t> fields(p, 3 * 8);
  if (!crypto::is_same(mac_of(kind, context, fields), std::span<const uint8_t, kMacSize>(p + 24, kMacSize)))
    return std::nullopt;
  const Positions positions{load_be64(p + 8), load_be64(p + 16)};
  // Whoever knows the ticket sends exactly this: header, kind and CRC are compared whole.
  const fabric::Bytes expected = encode_resume(kind, context, positions);
  if (!std::equal(expected.begin(), expected.end(), fpdu.begin(), fpdu.end())) return std::nullopt;
  return positions;
}

}  // namespace rdma_migrate::iwarp
