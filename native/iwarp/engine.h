// The processors of the software RNIC: a fixed number of threads, however many queue pairs there are, and one
// more for listeners, so that who comes is answered even when memory keeps all of the others waiting.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "iwarp/attachables.h"
#include "iwarp/processor.h"

namespace rdma_migrate::iwarp {

class Engine {
 public:
  // threads: at least 1. Throws Error: RESOURCE_LIMIT.
  explicit Engine(size_t threads);

  // The engine of this process; its threads end with the last one who holds it.
  static std::shared_ptr<Engine> shared();

  // The one that serves the fewest. One that has been waiting for memory since an earlier call, 100 ms ago or
  // more, only when there is no other.
  Processor& least_loaded();
  // Serves nothing that touches regions; made by the first call. Throws Error: RESOURCE_LIMIT.
  Processor& of_listeners();
  // Returns when no processor uses memory of that table under rights that it had before the call.
  void wait_until_left(const void* table) const;
  // Whether wait_until_left would wait.
  bool is_open(const void* table) const;
  size_t threads() const { return processors_.size(); }
  Attachables& attachables() { return attachables_; }

 private:
  // What a look at a processor's section found, and since when it has been so.
  struct Look {
    uint64_t state = 0;
    Clock::time_point since{};
  };
  bool is_held_up(size_t at, Clock::time_point now);

  Attachables attachables_;  // first: what serves uses it
  std::vector<std::unique_ptr<Processor>> processors_;
  std::mutex mutex_;  // what follows
  std::vector<Look> looks_;
  std::unique_ptr<Processor> of_listeners_;
};

}  // namespace rdma_migrate::iwarp
