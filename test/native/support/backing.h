// A file under registered memory that does as the test says: it takes its time, fails, or stores nothing.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <optional>

#include "fabric/backing.h"

namespace rdma_migrate::test {

class ScriptedBacking final : public fabric::Backing {
 public:
  bool is_fresh(uint64_t) const override { return fresh; }
  void prepare(uint64_t, uint64_t) override {}
  void touched(uint64_t, uint64_t) override {}
  uint64_t store(uint64_t address, std::span<const iovec> pieces) override {
    std::unique_lock lock(mutex_);
    ++stores_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return !held_; });
    if (failure) throw Error(*failure);
    uint64_t stored = 0;
    for (const iovec& piece : pieces) {
      const uint64_t size = std::min<uint64_t>(piece.iov_len, at_most - stored);
      std::memcpy(reinterpret_cast<void*>(address + stored), piece.iov_base, size);
      stored += size;
    }
    return stored;
  }

  void hold() {
    std::lock_guard lock(mutex_);
    held_ = true;
  }
  void release() {
    std::lock_guard lock(mutex_);
    held_ = false;
    changed_.notify_all();
  }
  // False: nobody has come within a minute.
  bool wait_stores(int count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::minutes(1), [&] { return stores_ >= count; });
  }
  int stores() {
    std::lock_guard lock(mutex_);
    return stores_;
  }

  // Before WRITEs come.
  std::atomic<bool> fresh{true};
  std::optional<Error> failure;
  uint64_t at_most = UINT64_MAX;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool held_ = false;
  int stores_ = 0;
};

}  // namespace rdma_migrate::test
