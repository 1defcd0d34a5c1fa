// A queue pair goes on in another process, where its program is moved to: docs/moving-connections.md.
//
//   here                                    there
//   prepare_move()    -> announcement() ->  expect(), so that the peer finds it ahead of time
//   stop_for_move()
//   freeze()          -> image          ->  register_as() for every region, thaw()
//                                           (here is told that it may go)
//   commit_move()                           take_over()
//   or abort_move()                         close()
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <vector>

#include "fabric/types.h"

namespace rdma_migrate::fabric {

// Drawn at random by who moves; the same for all queue pairs of one move.
using MoveId = std::array<uint8_t, 16>;

struct MovePlan {
  MoveId id{};
  std::vector<Endpoint>
      to;  // 1 to kMostPlaces listeners of the new process, numeric: where the peer finds it
  // The peer gives the queue pair up that long after it was stopped. Up to a day.
  std::chrono::milliseconds longest_pause{};
  // The peer connects to the new place at once, and not in the pause.
  bool ahead = true;

  static constexpr size_t kMostPlaces = 4;
};

enum class MoveStep : uint8_t {
  kPrepared,  // the peer knows of it, and has reached the new place if it was to
  kStopped,   // neither end begins anything; what was under way has arrived, or is sent again
  kAborted,   // it goes on here
};

// What a region of the old process was. wire_base: what its work requests and its peers name.
struct MovedRegion {
  uint32_t key = 0;
  uint64_t wire_base = 0;
  uint64_t length = 0;
  unsigned access = 0;
};

}  // namespace rdma_migrate::fabric
