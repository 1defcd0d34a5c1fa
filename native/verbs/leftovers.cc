#include "verbs/leftovers.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

namespace rdma_migrate::verbs {
namespace {

// Longer than destroying takes when nothing is wrong, so that there is one thread then.
constexpr std::chrono::milliseconds kPatience{50};

}  // namespace

struct Leftovers::State {
  std::mutex mutex;  // what follows
  std::condition_variable changed;
  std::deque<std::shared_ptr<void>> waiting;
  uint64_t taken = 0;
  size_t threads = 0;
  size_t workers = 0;    // threads that destroy something, or are about to look for it
  bool standby = false;  // one that looks whether the workers get on

  void ensure_threads();
  void start(void (State::*body)());
  void work(std::unique_lock<std::mutex>& lock);
  void run_worker();
  void run_standby();
};

// Under mutex. Throws std::system_error.
void Leftovers::State::ensure_threads() {
  if (waiting.empty() || threads == kMaxThreads) return;
  if (workers == 0) {
    start(&State::run_worker);
    ++workers;
  } else if (!standby) {
    start(&State::run_standby);
    standby = true;
  }
}

// Under mutex.
void Leftovers::State::start(void (State::*body)()) {
  std::thread([this, body] { (this->*body)(); }).detach();
  ++threads;
}

void Leftovers::State::run_worker() {
  std::unique_lock lock(mutex);
  work(lock);
}

void Leftovers::State::work(std::unique_lock<std::mutex>& lock) {
  while (!waiting.empty()) {
    std::shared_ptr<void> thing = std::move(waiting.front());
    waiting.pop_front();
    ++taken;
    try {
      ensure_threads();
    } catch (const std::exception&) {
      // The next one that comes tries again.
    }
    lock.unlock();
    thing.reset();
    lock.lock();
  }
  --workers;
  --threads;
  changed.notify_all();
}

void Leftovers::State::run_standby() {
  std::unique_lock lock(mutex);
  while (!waiting.empty()) {
    const uint64_t before = taken;
    changed.wait_for(lock, kPatience, [&] { return waiting.empty(); });
    if (taken != before || waiting.empty()) continue;
    // The workers hang: one more, and somebody else looks on.
    standby = false;
    ++workers;
    return work(lock);
  }
  standby = false;
  --threads;
}

Leftovers::Leftovers() : state_(*new State) {}

Leftovers& Leftovers::of_process() {
  static auto* const only = new Leftovers;
  return *only;
}

void Leftovers::destroy(std::shared_ptr<void> thing) noexcept {
  if (!thing) return;
  try {
    std::lock_guard lock(state_.mutex);
    state_.waiting.push_back(std::move(thing));
    state_.ensure_threads();
  } catch (const std::exception&) {
    // No thread: it waits for the next one. No memory for the list: it goes here, and this caller waits for
    // it.
  }
}

}  // namespace rdma_migrate::verbs
