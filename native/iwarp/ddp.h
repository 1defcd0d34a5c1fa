// DDP and RDMAP headers and the frame around them (RFC 5041 section 4, RFC 5040 section 4, RFC 5044 section
// 4). Pure: nothing here judges a value, the receiver does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace rdma_migrate::iwarp {

enum class RdmapOpcode : uint8_t {
  kWrite = 0,
  kReadRequest = 1,
  kReadResponse = 2,
  kSend = 3,
  kSendInvalidate = 4,
  kSendSolicited = 5,
  kSendSolicitedInvalidate = 6,
  kTerminate = 7,
  kControl = 15,  // ours: only on a queue pair that both ends made resumable
};

enum class DdpQueue : uint32_t { kSend = 0, kReadRequest = 1, kTerminate = 2, kControl = 3 };

constexpr size_t kFpduLengthSize = 2;
constexpr size_t kCrcSize = 4;
constexpr size_t kTaggedSize = 14;
constexpr size_t kUntaggedSize = 18;
constexpr size_t kMaxHeaderSize = kFpduLengthSize + kUntaggedSize;
constexpr size_t kMaxTrailerSize = 3 + kCrcSize;
constexpr size_t kMaxUlpdu = 65535;
constexpr size_t kReadRequestSize = 28;
constexpr uint8_t kDdpVersion = 1;
constexpr uint8_t kRdmapVersion = 1;

struct DdpHeader {
  bool tagged = false;
  bool last = false;
  uint8_t ddp_version = kDdpVersion;
  uint8_t rdmap_version = kRdmapVersion;
  uint8_t opcode = 0;  // 4 bits; values past kTerminate reach the receiver
  // Tagged
  uint32_t stag = 0;
  uint64_t target_offset = 0;
  // Untagged
  uint32_t invalidate_stag = 0;
  uint32_t queue = 0;
  uint32_t msn = 0;
  uint32_t message_offset = 0;
};

struct ReadRequest {
  uint32_t sink_stag = 0;
  uint64_t sink_offset = 0;
  uint32_t length = 0;
  uint32_t source_stag = 0;
  uint64_t source_offset = 0;
};

// Zero bytes that bring length field and ULPDU to a multiple of 4.
constexpr size_t fpdu_pad(size_t ulpdu) { return (0 - (kFpduLengthSize + ulpdu)) & 3; }
constexpr size_t fpdu_size(size_t ulpdu) { return kFpduLengthSize + ulpdu + fpdu_pad(ulpdu) + kCrcSize; }

constexpr bool ddp_is_tagged(uint8_t control) { return (control & 0x80) != 0; }
constexpr size_t ddp_header_size(bool tagged) { return tagged ? kTaggedSize : kUntaggedSize; }

// p: at least ddp_header_size(ddp_is_tagged(p[0])) bytes.
DdpHeader decode_ddp(const uint8_t* p);
// Writes the length field and the header; payload_size: the bytes of the ULPDU after the header. Gives the
// bytes written.
size_t encode_fpdu_header(const DdpHeader& header, size_t payload_size, uint8_t* p);
// Writes the CRC field. RFC 5044 sends CRC32C as RFC 3720 does: least significant byte first.
void store_crc(uint8_t* p, uint32_t crc);
uint32_t load_crc(const uint8_t* p);

ReadRequest decode_read_request(std::span<const uint8_t, kReadRequestSize> bytes);
void encode_read_request(const ReadRequest& request, uint8_t* p);

}  // namespace rdma_migrate::iwarp
