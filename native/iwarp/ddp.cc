#include "iwarp/ddp.h"

#include "iwarp/byte_order.h"

namespace rdma_migrate::iwarp {
namespace {

constexpr uint8_t kTaggedBit = 0x80;
constexpr uint8_t kLastBit = 0x40;
constexpr uint8_t kDdpVersionMask = 0x03;
constexpr int kRdmapVersionShift = 6;
constexpr uint8_t kOpcodeMask = 0x0f;

}  // namespace

DdpHeader decode_ddp(const uint8_t* p) {
  DdpHeader header;
  header.tagged = ddp_is_tagged(p[0]);
  header.last = (p[0] & kLastBit) != 0;
  header.ddp_version = p[0] & kDdpVersionMask;
  header.rdmap_version = p[1] >> kRdmapVersionShift;
  header.opcode = p[1] & kOpcodeMask;
  if (header.tagged) {
    header.stag = load_be32(p + 2);
    header.target_offset = load_be64(p + 6);
  } else {
    header.invalidate_stag = load_be32(p + 2);
    header.queue = load_be32(p + 6);
    header.msn = load_be32(p + 10);
    header.message_offset = load_be32(p + 14);
  }
  return header;
}

size_t encode_fpdu_header(const DdpHeader& header, size_t payload_size, uint8_t* p) {
  size_t size = ddp_header_size(header.tagged);
  store_be16(p, static_cast<uint16_t>(size + payload_size));
  p += kFpduLengthSize;
  p[0] = static_cast<uint8_t>((header.tagged ? kTaggedBit : 0) | (header.last ? kLastBit : 0) |
                              (header.ddp_version & kDdpVersionMask));
  p[1] = static_cast<uint8_t>(header.rdmap_version << kRdmapVersionShift | (header.opcode & kOpcodeMask));
  if (header.tagged) {
    store_be32(p + 2, header.stag);
    store_be64(p + 6, header.target_offset);
  } else {
    store_be32(p + 2, header.invalidate_stag);
    store_be32(p + 6, header.queue);
    store_be32(p + 10, header.msn);
    store_be32(p + 14, header.message_offset);
  }
  return kFpduLengthSize + size;
}

void store_crc(uint8_t* p, uint32_t crc) {
  for (int i = 0; i < 4; ++i) p[i] = static_cast<uint8_t>(crc >> 8 * i);
}

uint32_t load_crc(const uint8_t* p) {
  return uint32_t{p[0]} | uint32_t{p[1]} << 8 | uint32_t{p[2]} << 16 | uint32_t{p[3]} << 24;
}

ReadRequest decode_read_request(std::span<const uint8_t, kReadRequestSize> bytes) {
  const uint8_t* p = bytes.data();
  return {.sink_stag = load_be32(p),
          .sink_offset = load_be64(p + 4),
          .length = load_be32(p + 12),
          .source_stag = load_be32(p + 16),
          .source_offset = load_be64(p + 20)};
}

void encode_read_request(const ReadRequest& request, uint8_t* p) {
  store_be32(p, request.sink_stag);
  store_be64(p + 4, request.sink_offset);
  store_be32(p + 12, request.length);
  store_be32(p + 16, request.source_stag);
  store_be64(p + 20, request.source_offset);
}

}  // namespace rdma_migrate::iwarp
