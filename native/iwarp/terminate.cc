#include "iwarp/terminate.h"

#include "iwarp/byte_order.h"

namespace rdma_migrate::iwarp {
namespace {

constexpr uint16_t kSegmentLengthValid = 0x8000;   // M
constexpr uint16_t kDdpHeaderIncluded = 0x4000;    // D
constexpr uint16_t kRdmapHeaderIncluded = 0x2000;  // R

const char* words_of(TerminateCode code) {
  switch (code) {
    case TerminateCode::kRdmapCatastrophic:
      return "RDMAP layer, local catastrophic error";
    case TerminateCode::kRdmapInvalidStag:
      return "RDMAP layer, remote protection error: invalid STag";
    case TerminateCode::kRdmapBaseOrBounds:
      return "RDMAP layer, remote protection error: base or bounds violation";
    case TerminateCode::kRdmapAccessRights:
      return "RDMAP layer, remote protection error: access rights violation";
    case TerminateCode::kRdmapStagNotAssociated:
      return "RDMAP layer, remote protection error: STag of another stream";
    case TerminateCode::kRdmapOffsetWrap:
      return "RDMAP layer, remote protection error: offset wraps";
    case TerminateCode::kRdmapCannotInvalidate:
      return "RDMAP layer, remote protection error: STag cannot be invalidated";
    case TerminateCode::kRdmapInvalidVersion:
      return "RDMAP layer, remote operation error: invalid RDMAP version";
    case TerminateCode::kRdmapUnexpectedOpcode:
      return "RDMAP layer, remote operation error: unexpected opcode";
    case TerminateCode::kRdmapStreamCatastrophe:
      return "RDMAP layer, remote operation error: catastrophic, this stream";
    case TerminateCode::kRdmapUnspecified:
      return "RDMAP layer, remote operation error: unspecified";
    case TerminateCode::kDdpCatastrophic:
      return "DDP layer, local catastrophic error";
    case TerminateCode::kTaggedInvalidStag:
      return "DDP layer, tagged buffer error: invalid STag";
    case TerminateCode::kTaggedBaseOrBounds:
      return "DDP layer, tagged buffer error: base or bounds violation";
    case TerminateCode::kTaggedStagNotAssociated:
      return "DDP layer, tagged buffer error: STag of another stream";
    case TerminateCode::kTaggedOffsetWrap:
      return "DDP layer, tagged buffer error: offset wraps";
    case TerminateCode::kTaggedInvalidVersion:
      return "DDP layer, tagged buffer error: invalid DDP version";
    case TerminateCode::kUntaggedInvalidQueue:
      return "DDP layer, untagged buffer error: invalid queue number";
    case TerminateCode::kUntaggedNoBuffer:
      return "DDP layer, untagged buffer error: no RECV posted";
    case TerminateCode::kUntaggedInvalidMsn:
      return "DDP layer, untagged buffer error: message sequence number out of range";
    case TerminateCode::kUntaggedInvalidOffset:
      return "DDP layer, untagged buffer error: invalid message offset";
    case TerminateCode::kUntaggedTooLong:
      return "DDP layer, untagged buffer error: message longer than the RECV";
    case TerminateCode::kUntaggedInvalidVersion:
      return "DDP layer, untagged buffer error: invalid DDP version";
    case TerminateCode::kMpaCrc:
      return "MPA layer: CRC mismatch";
    case TerminateCode::kMpaLength:
      return "MPA layer: invalid FPDU length";
  }
  return "unknown error";
}

const char* error_code_of(TerminateCode code) {
  switch (code) {
    case TerminateCode::kRdmapInvalidStag:
    case TerminateCode::kRdmapBaseOrBounds:
    case TerminateCode::kRdmapAccessRights:
    case TerminateCode::kRdmapStagNotAssociated:
    case TerminateCode::kRdmapOffsetWrap:
    case TerminateCode::kRdmapCannotInvalidate:
    case TerminateCode::kTaggedInvalidStag:
    case TerminateCode::kTaggedBaseOrBounds:
    case TerminateCode::kTaggedStagNotAssociated:
    case TerminateCode::kTaggedOffsetWrap:
      return "REMOTE_ACCESS_ERROR";
    case TerminateCode::kMpaCrc:
      return "CRC_ERROR";
    default:
      return "WIRE_ERROR";
  }
}

}  // namespace

std::string describe(TerminateCode code) {
  auto value = static_cast<uint16_t>(code);
  return std::string(words_of(code)) + " (layer " + std::to_string(value >> 12) + ", type " +
         std::to_string(value >> 8 & 0xf) + ", code " + std::to_string(value & 0xff) + ")";
}

WireFault make_fault(TerminateCode code, const std::string& message) {
  return WireFault(code, Error(error_code_of(code), message));
}

fabric::Bytes encode_terminate(TerminateCode code, std::span<const uint8_t> ddp_header,
                               uint16_t segment_length, std::span<const uint8_t> read_request) {
  fabric::Bytes payload(4);
  store_be16(payload.data(), static_cast<uint16_t>(code));
  if (ddp_header.empty()) return payload;
  auto headers = static_cast<uint16_t>(kSegmentLengthValid | kDdpHeaderIncluded |
                                       (read_request.empty() ? 0 : kRdmapHeaderIncluded));
  store_be16(payload.data() + 2, headers);
  payload.resize(6);
  store_be16(payload.data() + 4, segment_length);
  payload.insert(payload.end(), ddp_header.begin(), ddp_header.end());
  payload.insert(payload.end(), read_request.begin(), read_request.end());
  return payload;
}

TerminateCode decode_terminate(std::span<const uint8_t> payload) {
  if (payload.size() < 2) return TerminateCode::kRdmapUnspecified;
  return static_cast<TerminateCode>(load_be16(payload.data()));
}

}  // namespace rdma_migrate::iwarp
