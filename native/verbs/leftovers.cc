#include "verbs/leftovers.h"

#include <mutex>
#include <thread>
#include <vector>

namespace rdma_migrate::verbs {
namespace {

struct Leftovers {
  std::mutex mutex;
  std::vector<std::shared_ptr<DeviceQueuePair>> waiting;
  bool running = false;

  void run() noexcept {
    for (;;) {
      std::vector<std::shared_ptr<DeviceQueuePair>> now;
      std::lock_guard lock(mutex);
      now.swap(waiting);  // destroyed without the lock
      running = !now.empty();
      if (!running) return;
    }
  }
};

// Never destroyed: its thread may run until the process ends.
Leftovers& leftovers() {
  static auto* const only = new Leftovers;
  return *only;
}

}  // namespace

void destroy_elsewhere(std::shared_ptr<DeviceQueuePair> queue_pair) noexcept {
  Leftovers& all = leftovers();
  std::lock_guard lock(all.mutex);
  try {
    all.waiting.push_back(std::move(queue_pair));
    if (all.running) return;
    std::thread([&all] { all.run(); }).detach();
    all.running = true;
  } catch (const std::exception&) {
    // No thread, or no memory for the list: then it has gone here, and this caller has waited for it.
  }
}

}  // namespace rdma_migrate::verbs
