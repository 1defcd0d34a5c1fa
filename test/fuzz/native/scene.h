// The victim's memory: regions with every mix of rights in one arena, as a table that peers' keys lead to.
#pragma once

#include <functional>
#include <vector>

#include "fabric/types.h"
#include "frames.h"
#include "guarded_arena.h"

namespace rdma_migrate::fuzz {

class Scene {
 public:
  enum Place : size_t { kWrite, kRead, kBoth, kLocal, kSpare, kSink, kInbox };
  static constexpr size_t kRecvs = 6;
  static constexpr uint32_t kRecvSize = 2000;
  static constexpr uint32_t kReadSize = 1500;
  static constexpr size_t kReads = 3;

  Scene() : arena({16384, 8192, 8192, 4096, 1024, kReads * kReadSize, kRecvs * kRecvSize}) {}

  // Registers each place: gives its key. wire_base: what work requests and the peer will name.
  using Register =
      std::function<uint32_t(uint64_t address, uint64_t size, unsigned access, uint64_t wire_base)>;
  World open(Random& random, bool own_bases, const Register& add) {
    using namespace fabric;
    constexpr unsigned local = kAccessLocalWrite;
    const unsigned rights[] = {local | kAccessRemoteWrite,
                               kAccessRemoteRead,
                               local | kRemoteAccess,
                               local,
                               kAccessRemoteRead,
                               local,
                               local};
    ranges_.clear();
    for (size_t place = 0; place < std::size(rights); ++place) {
      const uint64_t address = arena.address(place);
      const uint64_t base = own_bases ? random.next() >> 1 : address;
      ranges_.push_back({add(address, arena.size(place), rights[place], base), base, arena.size(place)});
    }
    for (const Place place : {kWrite, kBoth, kSink, kInbox}) arena.grant(place);
    World world;
    world.writable = {ranges_[kWrite], ranges_[kBoth]};
    world.readable = {ranges_[kRead], ranges_[kBoth]};
    world.others = {ranges_[kRead], ranges_[kLocal], ranges_[kSink], ranges_[kInbox], ranges_[kWrite]};
    world.invalidatable = {ranges_[kSpare]};
    world.recvs = random.below(kRecvs + 1);
    world.recv_size = kRecvSize;
    return world;
  }
  const Range& range(size_t place) const { return ranges_[place]; }
  fabric::RecvWorkRequest recv(size_t number) {
    return {number, ranges_[kInbox].base + number * kRecvSize, kRecvSize, ranges_[kInbox].stag};
  }
  fabric::SendWorkRequest read(size_t number) {
    fabric::SendWorkRequest request;
    request.wr_id = number;
    request.opcode = fabric::Opcode::kRdmaRead;
    request.address = ranges_[kSink].base + number * kReadSize;
    request.length = kReadSize;
    request.lkey = ranges_[kSink].stag;
    return request;
  }
  Range read_sink(size_t number) const {
    return {ranges_[kSink].stag, ranges_[kSink].base + number * kReadSize, kReadSize};
  }

  GuardedArena arena;

 private:
  std::vector<Range> ranges_;
};

}  // namespace rdma_migrate::fuzz
