// TERMINATE: what a peer is told before the connection is given up (RFC 5040 section 4.8, codes also of RFC
// 5041 section 7.2 and RFC 5044 section 8).
#pragma once

#include <cstdint>
#include <exception>
#include <span>
#include <string>

#include "fabric/fabric.h"

namespace rdma_migrate::iwarp {

// Layer, error type and error code in one: 0xLTCC as on the wire.
enum class TerminateCode : uint16_t {
  kRdmapCatastrophic = 0x0000,
  kRdmapInvalidStag = 0x0100,
  kRdmapBaseOrBounds = 0x0101,
  kRdmapAccessRights = 0x0102,
  kRdmapStagNotAssociated = 0x0103,
  kRdmapOffsetWrap = 0x0104,
  kRdmapCannotInvalidate = 0x0109,
  kRdmapInvalidVersion = 0x0205,
  kRdmapUnexpectedOpcode = 0x0206,
  kRdmapStreamCatastrophe = 0x0207,
  kRdmapUnspecified = 0x02ff,
  kDdpCatastrophic = 0x1000,
  kTaggedInvalidStag = 0x1100,
  kTaggedBaseOrBounds = 0x1101,
  kTaggedStagNotAssociated = 0x1102,
  kTaggedOffsetWrap = 0x1103,
  kTaggedInvalidVersion = 0x1104,
  kUntaggedInvalidQueue = 0x1201,
  kUntaggedNoBuffer = 0x1202,
  kUntaggedInvalidMsn = 0x1203,
  kUntaggedInvalidOffset = 0x1204,
  kUntaggedTooLong = 0x1205,
  kUntaggedInvalidVersion = 0x1206,
  kMpaCrc = 0x2002,
  kMpaLength = 0x2003,
};

// "DDP layer, tagged buffer error: base or bounds violation (layer 1, type 1, code 1)"; unknown ones by their
// numbers.
std::string describe(TerminateCode code);

// A peer broke the rules: ends the connection with a TERMINATE to the peer and error to this side's user.
class WireFault : public std::exception {
 public:
  WireFault(TerminateCode code, Error error) : code_(code), error_(std::move(error)) {}
  const char* what() const noexcept override { return error_.what(); }
  TerminateCode code() const { return code_; }
  const Error& error() const { return error_; }

 private:
  TerminateCode code_;
  Error error_;
};

// The fault with the error code that fits: REMOTE_ACCESS_ERROR for STag, bounds and access, CRC_ERROR, else
// WIRE_ERROR.
WireFault make_fault(TerminateCode code, const std::string& message);

// The payload of a TERMINATE. ddp_header: the offending segment's header, empty where none was understood;
// segment_length: its ULPDU length. read_request: the 28 bytes of an offending READ request, or empty.
fabric::Bytes encode_terminate(TerminateCode code, std::span<const uint8_t> ddp_header,
                               uint16_t segment_length, std::span<const uint8_t> read_request);

// The code in the payload of a received TERMINATE; a payload too short to hold one gives kRdmapUnspecified.
TerminateCode decode_terminate(std::span<const uint8_t> payload);

}  // namespace rdma_migrate::iwarp
