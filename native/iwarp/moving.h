// A queue pair of which one end moves to another process: what each end knows of it. Of the queue pair's
// processor.
#pragma once

#include <memory>
#include <optional>

#include "iwarp/attachment.h"
#include "iwarp/move_frames.h"

namespace rdma_migrate::iwarp {

// This end moves.
struct Moving {
  enum class Step { kPreparing, kPrepared, kStopping, kStopped, kFrozen, kAborting };
  Prepare said;
  Step step = Step::kPreparing;
  // Of PREPARE, STOP and ABORT; none: nothing is awaited, or its time has been told of.
  std::optional<Clock::time_point> answer_by;
  uint64_t moved_before = 0;  // bytes and messages, both ways, when it was stopped
};

// The peer moves: the way to its new place, which counts when that has answered RESUME.
struct Following {
  Prepare said;
  // While PREPARE is not answered: the new place may hear of it later than this end.
  std::optional<Clock::time_point> answer_by;
  bool is_stopped = false;
  // The old place answers no more, whoever is asked for it.
  bool has_left = false;
  size_t failures = 0;  // of ways, in a row
  size_t place = 0;     // that the way leads to
  uint64_t epoch = 0;   // of the last way
  Clock::time_point next_try{};
  std::optional<Clock::time_point> until;  // stopped, or without the old place
  std::unique_ptr<Attachment> way;
};

}  // namespace rdma_migrate::iwarp
