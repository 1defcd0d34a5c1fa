// The one message of a stream: where its sender stands. It is cumulative, so that the next one makes up for
// any that was not sent.
//
//     kind u32          2                                        (all big-endian)
//     flags u32         END 1, DELIVERED 2, RESET 4
//     taken u32         messages of the receiver's that have been taken, modulo 2^32
//     reason u32        with RESET
//     written u64       bytes that have been written into the receiver's ring; they are there
//     consumed u64      bytes that have left the sender's own ring
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

namespace rdma_migrate::tunnel {

struct State {
  static constexpr uint32_t kKind = 2;
  static constexpr size_t kBytes = 32;
  // `written` is final: the sender's socket has ended.
  static constexpr uint32_t kEnd = 1;
  // After the receiver's END: all of it has been handed to the sender's socket, and its end too.
  static constexpr uint32_t kDelivered = 2;
  // The stream is over, and what is under way is of no use.
  static constexpr uint32_t kReset = 4;
  static constexpr uint32_t kFlags = kEnd | kDelivered | kReset;

  uint32_t flags = 0;
  uint32_t taken = 0;
  uint32_t reason = 0;
  uint64_t written = 0;
  uint64_t consumed = 0;
};

std::array<uint8_t, State::kBytes> encode(const State& state);
// Nothing: no such message. Flags that are not known are none.
std::optional<State> decode(std::span<const uint8_t> message);

}  // namespace rdma_migrate::tunnel
