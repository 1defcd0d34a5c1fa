#include "tunnel/ledger.h"

namespace rdma_migrate::tunnel {

std::optional<std::string> Ledger::take(const State& said) {
  if (received_ - told_.taken >= kMostUnderWay) return "more messages than were answered";
  if (said.taken - peer_.taken > sent_ - peer_.taken) return "an answer to a message that was not sent";
  if (said.consumed < peer_.consumed || said.consumed > told_.written)
    return "it has consumed " + std::to_string(said.consumed) + " bytes, of " + std::to_string(told_.written);
  if (said.written < peer_.written || said.written - told_.consumed > ring_bytes_)
    return "it has written " + std::to_string(said.written) + " bytes, where " +
           std::to_string(told_.consumed + ring_bytes_) + " fit";
  if ((peer_.flags & State::kEnd) != 0 && said.written != peer_.written) return "bytes after the end";
  if ((said.flags & peer_.flags) != peer_.flags) return "a flag that was set is not";
  const bool can_be_delivered = (told_.flags & State::kEnd) != 0 && said.consumed == told_.written;
  if ((said.flags & State::kDelivered) != 0 && !can_be_delivered) return "it has delivered what has no end";
  ++received_;
  peer_ = said;
  return std::nullopt;
}

State Ledger::say(State mine) {
  mine.taken = received_;
  ++sent_;
  told_ = mine;
  return mine;
}

}  // namespace rdma_migrate::tunnel
