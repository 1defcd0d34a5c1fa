#include "frames.h"

#include <algorithm>
#include <utility>

#include "iwarp/crc32c.h"
#include "support/raw_peer.h"

namespace rdma_migrate::fuzz {
namespace {

using fabric::Bytes;
using iwarp::RdmapOpcode;
using namespace rdma_migrate::test;

// Numbers that a peer keeps.
struct Peer {
  Random& random;
  const World& world;
  std::vector<Frame> frames;
  uint32_t sends = 0, reads = 0;
  size_t recvs_left = 0, reads_left = 0, answered = 0, invalidated = 0;

  void add(const iwarp::DdpHeader& header, Bytes payload) { frames.push_back({header, std::move(payload)}); }
  size_t payload_size(size_t most) {
    const uint64_t kind = random.below(10);
    return std::min<size_t>(most, kind < 6   ? random.below(64)
                                  : kind < 9 ? random.below(1500)
                                             : random.below(9000));
  }

  void write() {
    if (world.writable.empty()) return;
    const Range& range = random.pick(world.writable);
    uint64_t at = random.below(range.size);
    for (uint64_t segments = 1 + random.below(3), left = segments; left > 0; --left) {
      const size_t size = payload_size(range.size - at);
      add(write_header(range.stag, range.base + at, left == 1), random.bytes(size));
      at += size;
    }
  }
  void send() {
    if (recvs_left == 0) return;
    --recvs_left;
    iwarp::DdpHeader header = send_header(++sends, false);
    if (random.chance(20)) header.opcode = static_cast<uint8_t>(RdmapOpcode::kSendSolicited);
    if (random.chance(5) && invalidated < world.invalidatable.size()) {
      header.opcode = static_cast<uint8_t>(RdmapOpcode::kSendInvalidate);
      header.invalidate_stag = world.invalidatable[invalidated++].stag;
    }
    for (uint64_t left = 1 + random.below(3); left > 0; --left) {
      const size_t size = payload_size(world.recv_size - header.message_offset);
      header.last = left == 1;
      add(header, random.bytes(size));
      header.message_offset += static_cast<uint32_t>(size);
    }
  }
  void read() {
    if (world.readable.empty() || reads_left == 0) return;
    --reads_left;
    const Range& range = random.pick(world.readable);
    iwarp::ReadRequest request;
    request.sink_stag = static_cast<uint32_t>(random.next());
    request.sink_offset = random.next() >> 8;
    request.source_stag = range.stag;
    const uint64_t at = random.below(range.size);
    request.source_offset = range.base + at;
    request.length = static_cast<uint32_t>(payload_size(range.size - at));
    add(read_header(++reads), read_payload(request));
  }
  void answer() {
    if (answered == world.reads.size()) return;
    const Range& sink = world.reads[answered++];
    uint64_t at = 0;
    do {
      const uint64_t size = std::min<uint64_t>(sink.size - at, 1 + random.below(1500));
      iwarp::DdpHeader header = write_header(sink.stag, sink.base + at, at + size == sink.size);
      header.opcode = static_cast<uint8_t>(RdmapOpcode::kReadResponse);
      add(header, random.bytes(size));
      at += size;
    } while (at < sink.size);
  }
  void terminate() {
    iwarp::DdpHeader header = send_header(1);
    header.opcode = static_cast<uint8_t>(RdmapOpcode::kTerminate);
    header.queue = static_cast<uint32_t>(iwarp::DdpQueue::kTerminate);
    add(header, random.bytes(random.below(40)));
  }
};

void damage_range(Random& random, const World& world, Frame& frame) {
  const std::vector<Range>& all = random.chance(50) && !world.others.empty() ? world.others : world.writable;
  if (all.empty()) return;
  const Range& range = random.pick(all);
  if (random.chance(70)) frame.header.stag = range.stag;
  const std::vector<uint64_t> places = {
      range.base - 1, range.base + range.size, range.base + range.size - 1, UINT64_MAX - 3,
      range.base,     random.hostile()};
  frame.header.target_offset = random.pick(places);
}

void damage_read(Random& random, const World& world, Frame& frame) {
  iwarp::ReadRequest request = iwarp::decode_read_request(
      std::span<const uint8_t, iwarp::kReadRequestSize>(frame.payload.data(), iwarp::kReadRequestSize));
  switch (random.below(4)) {
    case 0:
      request.source_stag = world.others.empty() ? 1 : random.pick(world.others).stag;
      break;
    case 1:
      request.source_offset = random.chance(50) ? UINT64_MAX - 2 : request.source_offset + random.hostile();
      request.length = std::max<uint32_t>(request.length, 5);
      break;
    case 2:
      request.length = static_cast<uint32_t>(random.hostile());
      break;
    default:
      request.source_stag = static_cast<uint32_t>(random.next());
  }
  frame.payload = read_payload(request);
}

void damage_frame(Random& random, const World& world, Frame& frame) {
  iwarp::DdpHeader& header = frame.header;
  if (frame.payload.size() == iwarp::kReadRequestSize && random.chance(40)) {
    damage_read(random, world, frame);
    return;
  }
  if (header.tagged && random.chance(20)) {
    damage_range(random, world, frame);
    return;
  }
  switch (random.below(11)) {
    case 0:
      header.ddp_version = static_cast<uint8_t>(random.below(4));
      break;
    case 1:
      header.rdmap_version = static_cast<uint8_t>(random.below(4));
      break;
    case 2:
      header.opcode = static_cast<uint8_t>(random.below(16));
      break;
    case 3:
      header.tagged = !header.tagged;
      break;
    case 4:
      header.last = !header.last;
      break;
    case 5:
      header.queue = static_cast<uint32_t>(random.chance(70) ? random.below(4) : random.hostile());
      break;
    case 6:
      header.msn += static_cast<uint32_t>(random.below(5)) - 2;
      break;
    case 7:
      header.message_offset =
          static_cast<uint32_t>(random.chance(50) ? header.message_offset + 1 : random.hostile());
      break;
    case 8:
      header.stag = header.invalidate_stag = static_cast<uint32_t>(random.hostile());
      break;
    case 9:
      frame.payload = random.bytes(random.chance(80) ? random.below(2000) : random.below(65000));
      break;
    default:
      frame.length_lie =
          static_cast<int>(random.chance(50) ? random.below(9) : random.hostile() & 0xffff) - 4;
  }
}

}  // namespace

std::vector<Frame> honest_frames(Random& random, const World& world) {
  Peer peer{random, world, {}, 0, 0, world.recvs, world.ird, 0, 0};
  if (world.awaits_ready) peer.add(send_header(++peer.sends), {});
  for (uint64_t messages = 1 + random.below(40); messages > 0; --messages) {
    const uint64_t kind = random.below(100);
    if (kind < 60) {
      peer.write();
    } else if (kind < 75) {
      peer.send();
    } else if (kind < 90) {
      peer.read();
    } else {
      peer.answer();
    }
  }
  if (random.chance(2)) peer.terminate();
  return std::move(peer.frames);
}

void damage_frames(Random& random, const World& world, std::vector<Frame>& frames) {
  if (frames.empty()) return;
  for (uint64_t times = 1 + random.below(2); times > 0; --times) {
    const size_t at = random.below(frames.size());
    const auto place = frames.begin() + static_cast<ptrdiff_t>(at);
    const uint64_t kind = random.below(10);
    if (kind < 6) {
      damage_frame(random, world, frames[at]);
    } else if (kind == 6) {
      frames[at].bad_crc = true;
    } else if (kind == 7) {
      const Frame again = frames[at];
      frames.insert(place, again);
    } else if (kind == 8 && frames.size() > 1) {
      frames.erase(place);
    } else {
      std::swap(frames[at], frames[random.below(frames.size())]);
    }
  }
}

Bytes encode_frame(const Frame& frame) {
  Bytes bytes = fpdu(frame.header, frame.payload);
  if (frame.length_lie != 0) {
    const int length = (bytes[0] << 8 | bytes[1]) + frame.length_lie;
    bytes[0] = static_cast<uint8_t>(length >> 8);
    bytes[1] = static_cast<uint8_t>(length);
  }
  if (frame.length_lie != 0 || frame.bad_crc) {
    const uint32_t crc = iwarp::crc32c(std::span(bytes).first(bytes.size() - iwarp::kCrcSize));
    iwarp::store_crc(bytes.data() + bytes.size() - iwarp::kCrcSize, frame.bad_crc ? ~crc : crc);
  }
  return bytes;
}

Bytes encode_frames(Random& random, const std::vector<Frame>& frames, bool damaged) {
  Bytes stream;
  for (const Frame& frame : frames) {
    Bytes bytes = encode_frame(frame);
    if (damaged && random.below(frames.size()) == 0) {
      const bool mends = random.chance(50);
      mutate(random, bytes);
      if (mends && bytes.size() > iwarp::kCrcSize) {
        const uint32_t crc = iwarp::crc32c(std::span(bytes).first(bytes.size() - iwarp::kCrcSize));
        iwarp::store_crc(bytes.data() + bytes.size() - iwarp::kCrcSize, crc);
      }
    }
    stream.insert(stream.end(), bytes.begin(), bytes.end());
  }
  return stream;
}

}  // namespace rdma_migrate::fuzz
