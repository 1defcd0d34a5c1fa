#include "dirty/tracker.h"

#include <string>
#include <utility>

namespace rdma_migrate::dirty {

Tracker::Tracker(Blocks blocks) : blocks_(std::move(blocks)) {
  if (blocks_.empty()) throw Error("INVALID_ARGUMENT", "a tracker needs at least one RAM block");
}

void Tracker::throw_if_stopped() const {
  if (stopped()) throw Error("CANCELLED", "the dirty tracker was stopped");
}

void Tracker::start() {
  std::lock_guard lock(mutex_);
  throw_if_stopped();
  if (state_ != State::kNew) throw Error("INVALID_ARGUMENT", "the dirty tracker was started before");
  try {
    begin();
  } catch (...) {
    end();
    state_ = State::kStopped;
    throw;
  }
  state_ = State::kWatching;
}

uint64_t Tracker::collect(Bitmaps bitmaps) {
  std::lock_guard lock(mutex_);
  throw_if_stopped();
  if (state_ != State::kWatching)
    throw Error("INVALID_ARGUMENT", "collect: the dirty tracker is not started");
  if (bitmaps.size() != blocks_.size()) {
    throw Error("INVALID_ARGUMENT", "collect: expected " + std::to_string(blocks_.size()) +
                                        " bitmaps, one per block, but received " +
                                        std::to_string(bitmaps.size()));
  }
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const uint64_t pages = pages_of(*blocks_[i]);
    if (bitmaps[i]->pages() == pages) continue;
    throw Error("INVALID_ARGUMENT", "collect: the bitmap of " + blocks_[i]->name() + " has " +
                                        std::to_string(bitmaps[i]->pages()) + " pages, its memory " +
                                        std::to_string(pages));
  }
  return gather(bitmaps);
}

void Tracker::stop() noexcept {
  stopping_.store(true, std::memory_order_relaxed);
  std::lock_guard lock(mutex_);
  if (state_ == State::kWatching) end();
  state_ = State::kStopped;
  blocks_.clear();
}

}  // namespace rdma_migrate::dirty
