// Who waits for a barrier over several rails. Guarded by the lock of its owner.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace rdma_migrate::engine {

// One barrier runs at a time; who asks meanwhile waits for the next, which serves all that have asked by
// then.
class Barriers {
 public:
  void ask(uint64_t waiter) { waiting_.push_back(waiter); }
  // What a rail is to be asked with.
  uint64_t token() const { return token_; }
  // Whether the next one may run; it does then.
  bool begin() {
    if (!running_.empty() || waiting_.empty()) return false;
    running_ = std::exchange(waiting_, {});
    ++token_;
    return true;
  }
  // One rail more has been asked.
  void asked() { ++open_; }
  // One rail has answered, or none had to.
  void answered() { --open_; }
  // Who is served, once every rail that was asked has answered.
  std::vector<uint64_t> take_passed() {
    return open_ == 0 ? std::exchange(running_, {}) : std::vector<uint64_t>();
  }

 private:
  std::vector<uint64_t> waiting_;
  std::vector<uint64_t> running_;
  uint64_t token_ = 0;
  size_t open_ = 0;
};

}  // namespace rdma_migrate::engine
