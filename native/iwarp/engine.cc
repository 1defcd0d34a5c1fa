#include "iwarp/engine.h"

#include <algorithm>
#include <mutex>
#include <thread>

namespace rdma_migrate::iwarp {
namespace {

// More than four carry no more: from there on memory bandwidth is the limit, and a host that is being drained
// has guests to run.
constexpr size_t kMostThreads = 4;

}  // namespace

Engine::Engine(size_t threads) {
  for (size_t at = 0; at < std::max<size_t>(threads, 1); ++at)
    processors_.push_back(std::make_unique<Processor>());
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
  const auto fewer = [](const auto& left, const auto& right) {
    return left->load.load() < right->load.load();
  };
  return **std::min_element(processors_.begin(), processors_.end(), fewer);
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
