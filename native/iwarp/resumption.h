// How a queue pair outlives its carrier: what was agreed in the first handshake, and the search for a new
// carrier. Of the queue pair's processor.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "iwarp/attachment.h"
#include "iwarp/carrier_keys.h"
#include "iwarp/moving.h"

namespace rdma_migrate::iwarp {

struct Resumption {
  bool dials = false;               // else waits at a listener
  fabric::Endpoint endpoint;        // to dial: where the first carrier has found the peer
  std::optional<ResumeTail> terms;  // none: it is not resumable, or not known yet
  std::optional<CarrierKeys> keys;  // it is protected

  // The carrier of now has the highest epoch that was attached.
  uint64_t epoch = 0;
  bool crc = false;
  std::vector<std::unique_ptr<Attachment>> attachments;
  Clock::time_point until{};
  Clock::time_point next_try{};
  std::optional<Clock::time_point> refused_since;  // every try since then
  std::optional<uint64_t> moved_before;            // messages, both ways, when a carrier was lost last
  uint32_t fruitless = 0;                          // carriers in a row since then that moved none
  std::optional<Error> reason;

  std::optional<Moving> moving;
  std::optional<Following> following;
  // At the new place: it may attach, and goes on no sooner than it is taken over.
  bool is_expected = false;
};

}  // namespace rdma_migrate::iwarp
