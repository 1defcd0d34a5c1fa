// The processors of the software RNIC: a fixed number of threads, however many queue pairs there are.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "iwarp/processor.h"

namespace rdma_migrate::iwarp {

class Engine {
 public:
  // threads: at least 1. Throws Error: RESOURCE_LIMIT.
  explicit Engine(size_t threads);

  // The engine of this process; its threads end with the last one who holds it.
  static std::shared_ptr<Engine> shared();

  // The one that serves the fewest.
  Processor& least_loaded();
  // Returns when no processor uses memory of that table under rights that it had before the call.
  void wait_until_left(const void* table) const;
  // Whether wait_until_left would wait.
  bool is_open(const void* table) const;
  size_t threads() const { return processors_.size(); }

 private:
  std::vector<std::unique_ptr<Processor>> processors_;
};

}  // namespace rdma_migrate::iwarp
