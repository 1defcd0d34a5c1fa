#include "iwarp/engine.h"

#include <algorithm>
#include <mutex>
#include <thread>

namespace rdma_migrate::iwarp {
namespace {

// More than four carry no more: from there on memory bandwidth is the limit, and a host that is being drained
// has guests to run.
constexpr size_t kMostThreads = 4;

// A section lasts some microseconds, unless it waits for a page of a disk that hangs.
constexpr std::chrono::milliseconds kHeldUp{100};

}  // namespace

Engine::Engine(size_t threads) {
  for (size_t at = 0; at < std::max<size_t>(threads, 1); ++at)
    processors_.push_back(std::make_unique<Processor>());
  looks_.resize(processors_.size());
}

std::shared_ptr<Engine> Engine::shared() {
  static std::mutex mutex;
  static std::weak_ptr<Engine> current;
  std::lock_guard lock(mutex);
  std::shared_ptr<Engine> engine = current.lock();
  if (!engine) {
    const size_t cores = std::thread::hardware_concurrency();
    engine = std::make_shared<Engine>(std::clamp<size_t>(cores, 1, kMostThreads));
    current = engine;
  }
  return engine;
}

Processor& Engine::least_loaded() {
  const Clock::time_point now = Clock::now();
  std::lock_guard lock(mutex_);
  Processor* best = nullptr;
  bool best_is_held_up = false;
  for (size_t at = 0; at < processors_.size(); ++at) {
    Processor& each = *processors_[at];
    const bool held_up = is_held_up(at, now);
    const bool better = best == nullptr ||
                        (held_up == best_is_held_up ? each.load.load() < best->load.load() : best_is_held_up);
    if (!better) continue;
    best = &each;
    best_is_held_up = held_up;
  }
  return *best;
}

bool Engine::is_held_up(size_t at, Clock::time_point now) {
  Look& look = looks_[at];
  const uint64_t state = processors_[at]->section.state();
  if (state != look.state) look = {state, now};
  return IoSection::is_open_in(state) && now - look.since >= kHeldUp;
}

Processor& Engine::of_listeners() {
  std::lock_guard lock(mutex_);
  if (!of_listeners_) of_listeners_ = std::make_unique<Processor>();
  return *of_listeners_;
}

void Engine::wait_until_left(const void* table) const {
  for (const auto& processor : processors_) {
    // A processor's own section is closed whenever it runs code that gives regions away.
    if (!processor->is_here()) processor->section.wait_until_left(table);
  }
}

bool Engine::is_open(const void* table) const {
  return std::any_of(processors_.begin(), processors_.end(), [table](const auto& processor) {
    return !processor->is_here() && processor->section.is_open(table);
  });
}

}  // namespace rdma_migrate::iwarp
