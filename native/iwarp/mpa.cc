#include "iwarp/mpa.h"

#include <cstring>
#include <string>

#include "iwarp/byte_order.h"

namespace rdma_migrate::iwarp {
namespace {

constexpr size_t kKeySize = 16;
constexpr char kRequestKey[] = "MPA ID Req Frame";
constexpr char kReplyKey[] = "MPA ID Rep Frame";
static_assert(sizeof kRequestKey - 1 == kKeySize && sizeof kReplyKey - 1 == kKeySize);

constexpr uint8_t kFlagMarkers = 0x80;
constexpr uint8_t kFlagCrc = 0x40;
constexpr uint8_t kFlagReject = 0x20;
constexpr uint8_t kFlagEnhanced = 0x10;
constexpr uint16_t kTopBit = 0x8000;
constexpr uint16_t kNextBit = 0x4000;
constexpr uint16_t kDepthMask = 0x3fff;

const char* key_of(MpaKind kind) { return kind == MpaKind::kRequest ? kRequestKey : kReplyKey; }
const char* name_of(MpaKind kind) { return kind == MpaKind::kRequest ? "request" : "reply"; }

[[noreturn]] void fail(MpaKind kind, const std::string& what) {
  throw Error("MPA_ERROR", std::string("bad MPA ") + name_of(kind) + ": " + what);
}

uint8_t flags_of(const MpaFrame& frame) {
  return static_cast<uint8_t>((frame.markers ? kFlagMarkers : 0) | (frame.crc ? kFlagCrc : 0) |
                              (frame.reject ? kFlagReject : 0) | (frame.enhanced ? kFlagEnhanced : 0));
}

void decode_enhanced(MpaFrame& frame, const uint8_t* p) {
  uint16_t ird = load_be16(p);
  uint16_t ord = load_be16(p + 2);
  frame.peer_to_peer = (ird & kTopBit) != 0;
  frame.rtr_send = (ird & kNextBit) != 0;
  frame.rtr_write = (ord & kTopBit) != 0;
  frame.rtr_read = (ord & kNextBit) != 0;
  frame.ird = ird & kDepthMask;
  frame.ord = ord & kDepthMask;
}

void encode_enhanced(const MpaFrame& frame, uint8_t* p) {
  store_be16(p, static_cast<uint16_t>((frame.ird & kDepthMask) | (frame.peer_to_peer ? kTopBit : 0) |
                                      (frame.rtr_send ? kNextBit : 0)));
  store_be16(p + 2, static_cast<uint16_t>((frame.ord & kDepthMask) | (frame.rtr_write ? kTopBit : 0) |
                                          (frame.rtr_read ? kNextBit : 0)));
}

}  // namespace

size_t max_private_data(const MpaFrame& frame) {
  return kMpaMaxPrivateData - (frame.enhanced ? kMpaEnhancedSize : 0);
}

fabric::Bytes encode(const MpaFrame& frame) {
  if (frame.private_data.size() > max_private_data(frame)) {
    throw Error("INVALID_ARGUMENT", "private data has " + std::to_string(frame.private_data.size()) +
                                        " bytes, at most " + std::to_string(max_private_data(frame)) +
                                        " fit");
  }
  size_t extra = frame.enhanced ? kMpaEnhancedSize : 0;
  fabric::Bytes bytes(kMpaHeaderSize + extra);
  std::memcpy(bytes.data(), key_of(frame.kind), kKeySize);
  bytes[16] = flags_of(frame);
  bytes[17] = frame.revision;
  store_be16(&bytes[18], static_cast<uint16_t>(extra + frame.private_data.size()));
  if (frame.enhanced) encode_enhanced(frame, &bytes[kMpaHeaderSize]);
  bytes.insert(bytes.end(), frame.private_data.begin(), frame.private_data.end());
  return bytes;
}

size_t mpa_body_size(std::span<const uint8_t, kMpaHeaderSize> header, MpaKind kind) {
  if (std::memcmp(header.data(), key_of(kind), kKeySize) != 0) {
    fail(kind,
         "it does not start with the key '" + std::string(key_of(kind)) + "'; the peer does not speak iWARP");
  }
  uint8_t revision = header[17];
  if (revision != 1 && revision != 2)
    fail(kind, "revision " + std::to_string(revision) + ", expected 1 or 2");
  size_t length = load_be16(&header[18]);
  if (length > kMpaMaxPrivateData) {
    fail(kind, std::to_string(length) + " bytes of private data, at most " +
                   std::to_string(kMpaMaxPrivateData) + " are allowed");
  }
  if (revision == 2 && (header[16] & kFlagEnhanced) != 0 && length < kMpaEnhancedSize) {
    fail(kind, "the enhanced setup flag is set, but only " + std::to_string(length) +
                   " bytes follow instead of IRD and ORD");
  }
  return length;
}

MpaFrame decode_mpa(std::span<const uint8_t> bytes, MpaKind kind) {
  if (bytes.size() < kMpaHeaderSize) fail(kind, "it ends after " + std::to_string(bytes.size()) + " bytes");
  size_t body = mpa_body_size(bytes.first<kMpaHeaderSize>(), kind);
  if (bytes.size() != kMpaHeaderSize + body) {
    fail(kind,
         std::to_string(bytes.size()) + " bytes, its header says " + std::to_string(kMpaHeaderSize + body));
  }
  uint8_t flags = bytes[16];
  MpaFrame frame;
  frame.kind = kind;
  frame.revision = bytes[17];
  frame.markers = (flags & kFlagMarkers) != 0;
  frame.crc = (flags & kFlagCrc) != 0;
  frame.reject = (flags & kFlagReject) != 0;
  // The flag is a reserved bit in revision 1.
  frame.enhanced = frame.revision == 2 && (flags & kFlagEnhanced) != 0;
  std::span<const uint8_t> rest = bytes.subspan(kMpaHeaderSize);
  if (frame.enhanced) {
    decode_enhanced(frame, rest.data());
    rest = rest.subspan(kMpaEnhancedSize);
  }
  frame.private_data.assign(rest.begin(), rest.end());
  return frame;
}

}  // namespace rdma_migrate::iwarp
