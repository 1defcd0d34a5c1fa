// A processing thread of a provider: an epoll loop over any number of carriers, listeners and handshakes.
// Nothing that it serves may wait.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "fd.h"

namespace rdma_migrate::fabric {

using Clock = std::chrono::steady_clock;

class Processor;

// What a processor serves. All calls come on its thread, one at a time.
class Served {
 public:
  virtual ~Served() = default;

  // What made the processor call; several at once.
  enum Reason : unsigned {
    kReadable = 1,  // a descriptor has bytes, the end of the stream, or an error
    kWritable = 2,  // a descriptor takes bytes again
    kKicked = 4,    // somebody asked with Processor::kick
    kDue = 8,       // the time of Processor::wake_by has come
    kResumed = 16,  // the last serve() asked to go on
    kEnding = 32,   // after the bytes that are there the stream ends, or has an error
  };
  enum class Next { kWait, kGoOn };
  // Does what can be done without waiting, for at most some hundred microseconds: kGoOn when there is more,
  // and others have their turn before.
  virtual Next serve(unsigned reasons) noexcept = 0;

 private:
  friend class Processor;
  // Processor's thread only.
  unsigned reasons_ = 0;
  bool queued_ = false;
  std::optional<Clock::time_point> due_;
  // Any thread.
  std::atomic<bool> kicked_{false};
};

class Processor {
 public:
  // Throws Error: RESOURCE_LIMIT (no threads or descriptors left).
  Processor();
  // Nothing is served any more.
  ~Processor();
  Processor(const Processor&) = delete;

  // Any thread: serve() comes soon, however often this is called before. The served thing must live until
  // forget() has returned.
  void kick(Served& served);
  // Runs work on the thread and returns when it has run; on the thread itself, at once. work must not throw.
  void call(const std::function<void()>& work);
  bool is_here() const { return std::this_thread::get_id() == thread_.get_id(); }

  // On the thread only, what follows.

  // Edge-triggered, both ways, from now on. False: errno says why.
  bool watch(int fd, Served& served);
  void unwatch(int fd);
  // serve() comes by then at the latest: an earlier time that was asked for before stays.
  void wake_by(Served& served, Clock::time_point when);
  // serve() comes again in the next round.
  void resume(Served& served) { enqueue(served, Served::kResumed); }
  // No serve() comes after it. Its descriptors have been unwatched: closing them is not enough, for a child
  // process that has not come to its exec() yet holds them open, and epoll tells of them.
  void forget(Served& served);
  // Destroys it when nobody above on the stack can be using it.
  void retire(std::unique_ptr<Served> served);

  // Things served, for spreading: changed by who adds and removes them.
  std::atomic<size_t> load{0};

 private:
  struct Call {
    const std::function<void()>* work;
    bool done = false;
  };

  void run() noexcept;
  void enqueue(Served& served, unsigned reason);
  void wait_and_collect();
  void collect_kicked();
  void collect_due();
  void serve_round();
  void run_calls();
  int timeout() const;
  void wake();

  UniqueFd epoll_;
  WakeEvent event_;
  std::atomic<bool> asleep_{false};
  std::atomic<bool> stopping_{false};

  std::mutex mutex_;  // kicked_, calls_
  std::condition_variable called_;
  std::vector<Served*> kicked_;
  std::vector<Call*> calls_;

  // The thread's own.
  std::vector<Served*> queue_;
  std::vector<Served*> round_;
  std::set<std::pair<Clock::time_point, Served*>> due_;
  std::vector<std::unique_ptr<Served>> retired_;

  std::thread thread_;  // last: it uses the members above
};

}  // namespace rdma_migrate::fabric
