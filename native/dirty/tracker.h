// Detects which pages of a VM's RAM are written while the guest runs. What each kind sees, needs and costs
// is in docs/dirty-tracking.md.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "memory/bitmap.h"
#include "memory/mapping.h"
#include "memory/range.h"

namespace rdma_migrate::dirty {

using Blocks = std::vector<std::shared_ptr<memory::Mapping>>;
using Bitmaps = std::span<const std::shared_ptr<memory::Bitmap>>;

// One migration's watch over all blocks: start, any number of collects, stop. start() and collect() block
// for as long as their work takes; stop() may be called from any thread and ends a running one early.
class Tracker {
 public:
  explicit Tracker(Blocks blocks);
  virtual ~Tracker() = default;  // every kind's own destructor calls stop()
  Tracker(const Tracker&) = delete;
  Tracker& operator=(const Tracker&) = delete;

  // Every page written after it returns shows in a later collect(). Throws Error: TRACKER_UNAVAILABLE,
  // OUT_OF_MEMORY, CANCELLED (stopped), INVALID_ARGUMENT (a second time).
  void start();
  // Sets the bit of each page (of its mapping's page size) written since start() or the last call, one bitmap
  // per block, and forgets it. Bits already set stay. A page written meanwhile shows in this call or in the
  // next. Returns the number of pages found. An error loses nothing: what is not known to be unwritten is set
  // or shows in a later call. Throws Error: INVALID_ARGUMENT, TRACKER_UNAVAILABLE, IO_ERROR, TIMEOUT,
  // CANCELLED.
  uint64_t collect(Bitmaps bitmaps);
  // Releases everything, including the blocks. Idempotent.
  void stop() noexcept;

  // How long the last collect() (before the first, start()) stopped the guest; 0 for kinds that do not.
  using Milliseconds = std::chrono::duration<double, std::milli>;
  Milliseconds last_pause() const { return Milliseconds(last_pause_.load(std::memory_order_relaxed)); }

 protected:
  virtual void begin() = 0;
  virtual uint64_t gather(Bitmaps bitmaps) = 0;
  virtual void end() noexcept = 0;

  const Blocks& blocks() const { return blocks_; }
  // Throws Error("CANCELLED") once stop() was called: call it every few milliseconds of work.
  void throw_if_stopped() const;
  void note_pause(Milliseconds length) { last_pause_.store(length.count(), std::memory_order_relaxed); }
  bool stopped() const { return stopping_.load(std::memory_order_relaxed); }

 private:
  enum class State { kNew, kWatching, kStopped };

  Blocks blocks_;
  std::atomic<bool> stopping_{false};
  std::atomic<double> last_pause_{0};
  std::mutex mutex_;  // held by the running operation
  State state_ = State::kNew;
};

inline uint64_t pages_of(const memory::Mapping& mapping) { return mapping.length() / mapping.page_size(); }

}  // namespace rdma_migrate::dirty
