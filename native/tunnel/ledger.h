// What both ends of a stream have told each other, and whether a message of the peer's can be true. Pure; its
// owner locks.
//
// Every position is a count of bytes since the beginning; a ring's place of it is the remainder by its size.
//
// Messages need RECVs, of which an endpoint has engine::kRecvSlots. So an end sends news, or that it is
// there, while fewer than kNewsUnderWay of its messages have not been taken, and answers after kNewsUnderWay
// of the peer's at the latest. The last place is for an answer alone, and an answer has it whatever else
// there is to say: else two ends whose first messages cross would wait for each other.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "tunnel/state.h"

namespace rdma_migrate::tunnel {

class Ledger {
 public:
  static constexpr uint32_t kNewsUnderWay = 2;
  static constexpr uint32_t kMostUnderWay = 3;

  explicit Ledger(uint64_t ring_bytes) : ring_bytes_(ring_bytes) {}

  // What is wrong with a message of the peer's; nothing: it has been taken over.
  std::optional<std::string> take(const State& said);
  bool may_send_news() const { return under_way() < kNewsUnderWay; }
  bool may_answer() const { return under_way() < kMostUnderWay; }
  // Whether to speak now. has_more: news, or a time in which nothing was said.
  bool is_due(bool has_more) const {
    return (has_more && may_send_news()) || (owes_answer() && may_answer());
  }
  // The message that says `mine`, of which `taken` is filled in. Counts as sent.
  State say(State mine);

  const State& peer() const { return peer_; }
  const State& told() const { return told_; }

 private:
  uint32_t under_way() const { return sent_ - peer_.taken; }
  bool owes_answer() const { return received_ - told_.taken >= kNewsUnderWay; }

  uint64_t ring_bytes_;
  uint32_t sent_ = 0, received_ = 0;
  State told_, peer_;
};

}  // namespace rdma_migrate::tunnel
