#include "engine/alarm.h"

#include <condition_variable>
#include <mutex>
#include <set>
#include <utility>

#include "pinned_module.h"
#include "thread.h"

namespace rdma_migrate::engine {

// Lives as long as the process: a detached thread may still use it when static objects are destroyed.
class AlarmThread {
 public:
  static AlarmThread& shared() {
    static auto* const thread = new AlarmThread;
    return *thread;
  }

  void add() {
    std::lock_guard lock(mutex_);
    if (!running_) {
      pin_module();
      start_thread([this] { run(); }).detach();
      running_ = true;
    }
    ++alarms_;
  }

  void remove(Alarm& alarm) {
    std::lock_guard lock(mutex_);
    clear(alarm);
    if (--alarms_ == 0) changed_.notify_all();
  }

  void set(Alarm& alarm, Alarm::Clock::time_point when) {
    std::lock_guard lock(mutex_);
    if (alarm.due_ && *alarm.due_ <= when) return;
    clear(alarm);
    alarm.due_ = when;
    const bool first = due_.empty() || when < due_.begin()->first;
    due_.emplace(when, &alarm);
    if (first) changed_.notify_all();
  }

 private:
  void clear(Alarm& alarm) {
    if (const auto due = std::exchange(alarm.due_, std::nullopt)) due_.erase({*due, &alarm});
  }

  void run() {
    std::unique_lock lock(mutex_);
    while (alarms_ > 0) {
      if (due_.empty()) {
        changed_.wait(lock);
      } else if (const auto when = due_.begin()->first; when > Alarm::Clock::now()) {
        changed_.wait_until(lock, when);
      } else {
        Alarm& alarm = *due_.begin()->second;
        clear(alarm);
        alarm.queue_pair_.notify();  // under the lock: ~Alarm() waits for it
      }
    }
    running_ = false;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<std::pair<Alarm::Clock::time_point, Alarm*>> due_;
  size_t alarms_ = 0;
  bool running_ = false;
};

Alarm::Alarm(fabric::QueuePair& queue_pair) : queue_pair_(queue_pair) { AlarmThread::shared().add(); }
Alarm::~Alarm() { AlarmThread::shared().remove(*this); }
void Alarm::ring_by(Clock::time_point when) { AlarmThread::shared().set(*this, when); }

}  // namespace rdma_migrate::engine
