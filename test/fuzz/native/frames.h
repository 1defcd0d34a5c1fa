// The bytes of a peer: valid MPA, DDP and RDMAP messages for given memory, and damage to them. Nothing here
// knows how the bytes travel: a socket, or protected records around them, are the driver's.
#pragma once

#include <cstdint>
#include <vector>

#include "iwarp/ddp.h"
#include "random.h"

namespace rdma_migrate::fuzz {

// A registered range as the peer knows it.
struct Range {
  uint32_t stag = 0;
  uint64_t base = 0;  // wire
  uint64_t size = 0;
};

// What an honest peer may use, and what it owes.
struct World {
  std::vector<Range> writable;
  std::vector<Range> readable;
  std::vector<Range> others;  // without the right that a WRITE or READ needs
  std::vector<Range> invalidatable;
  // RECVs of the victim, and their size.
  size_t recvs = 0;
  uint32_t recv_size = 0;
  // READs of the victim's that wait for an answer, oldest first.
  std::vector<Range> reads;
  size_t ird = 0;
  bool awaits_ready = false;
};

// One FPDU before it is bytes. What is not damaged is right.
struct Frame {
  iwarp::DdpHeader header;
  fabric::Bytes payload;
  int length_lie = 0;  // added to the length field
  bool bad_crc = false;
};

// What a peer that keeps every rule says.
std::vector<Frame> honest_frames(Random& random, const World& world);
// Damages fields, lengths and order.
void damage_frames(Random& random, const World& world, std::vector<Frame>& frames);
fabric::Bytes encode_frame(const Frame& frame);
// The stream; damaged: bits, cuts and bytes, half of the time with right CRCs.
fabric::Bytes encode_frames(Random& random, const std::vector<Frame>& frames, bool damaged);

}  // namespace rdma_migrate::fuzz
