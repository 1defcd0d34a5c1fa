#include "tunnel/state.h"

#include <endian.h>

#include <cstring>

namespace rdma_migrate::tunnel {
namespace {

struct Wire {
  uint32_t kind, flags, taken, reason;
  uint64_t written, consumed;
};
static_assert(sizeof(Wire) == State::kBytes);

}  // namespace

std::array<uint8_t, State::kBytes> encode(const State& state) {
  const Wire wire{htobe32(State::kKind), htobe32(state.flags),   htobe32(state.taken),
                  htobe32(state.reason), htobe64(state.written), htobe64(state.consumed)};
  std::array<uint8_t, State::kBytes> bytes;
  std::memcpy(bytes.data(), &wire, sizeof wire);
  return bytes;
}

std::optional<State> decode(std::span<const uint8_t> message) {
  Wire wire;
  if (message.size() != sizeof wire) return std::nullopt;
  std::memcpy(&wire, message.data(), sizeof wire);
  const State state{be32toh(wire.flags), be32toh(wire.taken), be32toh(wire.reason), be64toh(wire.written),
                    be64toh(wire.consumed)};
  if (be32toh(wire.kind) != State::kKind || (state.flags & ~State::kFlags) != 0) return std::nullopt;
  return state;
}

}  // namespace rdma_migrate::tunnel
