// MPA's connection setup frames (RFC 5044 section 7.1, RFC 6581 sections 5 and 6). Pure: bytes in, frame out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "fabric/fabric.h"

namespace rdma_migrate::iwarp {

constexpr size_t kMpaHeaderSize = 20;       // key 16, flags 1, revision 1, private data length 2
constexpr size_t kMpaMaxPrivateData = 512;  // the 4 bytes of IRD and ORD included
constexpr size_t kMpaEnhancedSize = 4;

enum class MpaKind { kRequest, kReply };

struct MpaFrame {
  MpaKind kind = MpaKind::kRequest;
  uint8_t revision = 2;
  bool markers = false;
  bool crc = false;
  bool reject = false;
  bool enhanced = false;  // S: the fields below are present
  uint16_t ird = 0;       // 14 bits each
  uint16_t ord = 0;
  bool peer_to_peer = false;
  bool rtr_send = false;  // zero-length SEND, WRITE or READ as the ready-to-receive message
  bool rtr_write = false;
  bool rtr_read = false;
  fabric::Bytes private_data;  // without the enhanced fields

  bool any_rtr() const { return rtr_send || rtr_write || rtr_read; }
};

// How much private data of the caller's fits into a frame like this one.
size_t max_private_data(const MpaFrame& frame);

// Throws Error: INVALID_ARGUMENT when private_data is too long.
fabric::Bytes encode(const MpaFrame& frame);

// The header alone: checks key, revision (1 or 2) and length, and gives the number of bytes that follow it.
// Throws Error: MPA_ERROR.
size_t mpa_body_size(std::span<const uint8_t, kMpaHeaderSize> header, MpaKind kind);

// The whole frame. Throws Error: MPA_ERROR.
MpaFrame decode_mpa(std::span<const uint8_t> bytes, MpaKind kind);

}  // namespace rdma_migrate::iwarp
