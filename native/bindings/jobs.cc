#include "bindings/jobs.h"

#include <condition_variable>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "bindings/js_queue.h"

namespace rdma_migrate::bindings {
namespace {

// What the pool's threads know of an environment's jobs.
class Ledger {
 public:
  enum class State { kQueued, kRunning, kDone };

  // JavaScript thread.
  void add(uint64_t id, Job& job) {
    std::lock_guard lock(mutex_);
    jobs_.emplace(id, Entry{&job, State::kQueued});
  }
  void remove(uint64_t id) {
    std::lock_guard lock(mutex_);
    jobs_.erase(id);
  }
  // Nothing begins any more; waits for what runs.
  void end() {
    std::unique_lock lock(mutex_);
    std::erase_if(jobs_, [](const auto& entry) { return entry.second.state == State::kQueued; });
    done_.wait(lock, [this] {
      for (const auto& [id, entry] : jobs_) {
        if (entry.state == State::kRunning) return false;
      }
      return true;
    });
  }

  // A thread of the pool. False: the environment has ended.
  bool execute(uint64_t id) {
    Job* job = nullptr;
    {
      std::lock_guard lock(mutex_);
      const auto found = jobs_.find(id);
      if (found == jobs_.end()) return false;
      found->second.state = State::kRunning;
      job = found->second.job;
    }
    job->execute();
    std::lock_guard lock(mutex_);
    jobs_.find(id)->second.state = State::kDone;
    done_.notify_all();
    return true;
  }

 private:
  struct Entry {
    Job* job;
    State state;
  };
  std::mutex mutex_;
  std::condition_variable done_;
  std::map<uint64_t, Entry> jobs_;
};

// One for each environment; JavaScript thread only.
class Jobs {
 public:
  static Jobs& of(Napi::Env env) {
    auto* jobs = env.GetInstanceData<Jobs>();
    if (jobs == nullptr) {
      jobs = new Jobs(env);
      env.SetInstanceData<Jobs>(jobs);
    }
    return *jobs;
  }

  explicit Jobs(Napi::Env env) : queue_(std::make_shared<JsQueue>(env, "rdma-migrate work")) {
    queue_->unref(env);
    // Comes before the queue's own end, as it was added after it.
    napi_add_env_cleanup_hook(env, end, this);
    hooked_ = env;
  }
  ~Jobs() {
    if (!ending_) napi_remove_env_cleanup_hook(hooked_, end, this);
    end(this);
  }

  void start(Napi::Env env, WorkLane lane, std::unique_ptr<Job>& job) {
    if (ending_) return;
    const uint64_t id = next_id_++;
    ledger_->add(id, *job);
    try {
      Pool::shared().run(lane, [this, id, ledger = ledger_, queue = std::weak_ptr(queue_)] {
        if (!ledger->execute(id)) return;
        if (const auto open = queue.lock()) open->post([this, id](Napi::Env js) { settle(js, id); });
      });
    } catch (...) {
      ledger_->remove(id);
      throw;
    }
    if (jobs_.empty()) queue_->ref(env);
    jobs_.emplace(id, std::move(job));
  }

 private:
  static void end(void* self) {
    auto* const jobs = static_cast<Jobs*>(self);
    if (std::exchange(jobs->ending_, true)) return;
    jobs->ledger_->end();
    jobs->queue_->abandon();
    for (auto gone = std::exchange(jobs->jobs_, {}); !gone.empty();) gone.erase(gone.begin());
  }

  void settle(Napi::Env env, uint64_t id) {
    auto entry = jobs_.extract(id);
    ledger_->remove(id);
    if (jobs_.empty()) queue_->unref(env);
    if (!entry.empty()) entry.mapped()->settle(env);
  }

  const std::shared_ptr<Ledger> ledger_ = std::make_shared<Ledger>();
  const std::shared_ptr<JsQueue> queue_;
  napi_env hooked_ = nullptr;
  std::map<uint64_t, std::unique_ptr<Job>> jobs_;
  uint64_t next_id_ = 1;
  bool ending_ = false;
};

}  // namespace

void start_job(Napi::Env env, WorkLane lane, std::unique_ptr<Job>& job) {
  Jobs::of(env).start(env, lane, job);
}

}  // namespace rdma_migrate::bindings
