// Runs tasks on the JavaScript thread, posted from any thread, in order. One owner releases or abandons it on
// the JavaScript thread.
#pragma once

#include <napi.h>

#include <deque>
#include <functional>
#include <memory>
#include <mutex>

#include "bindings/errors.h"

namespace rdma_migrate::bindings {

class JsQueue {
 public:
  using Task = std::function<void(Napi::Env)>;

  JsQueue(Napi::Env env, const char* name) : state_(std::make_shared<State>()) {
    // A terminated worker's environment frees the function although we hold a reference: the finalizer comes
    // before.
    state_->function = Function::New(
        env, name, /*unlimited*/ 0, /*threads*/ 1, state_.get(),
        [state = state_](Napi::Env, void*, State*) { state->end(); }, static_cast<void*>(nullptr));
  }
  ~JsQueue() { release(); }

  // Any thread. A task posted after release, or while Node shuts the environment down, is dropped.
  void post(Task task) {
    std::lock_guard lock(state_->mutex);
    if (state_->gone) return;
    state_->tasks.push_back(std::move(task));
    const napi_status status = state_->function.NonBlockingCall(nullptr);
    if (status == napi_ok) return;
    task = std::move(state_->tasks.back());  // destroyed without the lock
    state_->tasks.pop_back();
    if (status == napi_closing) state_->gone = true;  // Node has taken our reference with that answer
  }

  // Lets the process end although the queue is open. JavaScript thread only.
  void unref(Napi::Env env) {
    std::lock_guard lock(state_->mutex);
    if (!state_->gone) state_->function.Unref(env);
  }

  // The opposite of unref().
  void ref(Napi::Env env) {
    std::lock_guard lock(state_->mutex);
    if (!state_->gone) state_->function.Ref(env);
  }

  // Tasks posted so far still run.
  void release() {
    std::lock_guard lock(state_->mutex);
    state_->let_go();
  }

  // Tasks posted so far do not run either: for an owner that is about to be freed.
  void abandon() {
    std::deque<Task> dropped;  // destroyed without the lock
    std::lock_guard lock(state_->mutex);
    dropped.swap(state_->tasks);
    state_->let_go();
  }

 private:
  struct State;
  static void run(Napi::Env env, Napi::Function, State* state, void*) {
    if (env == nullptr) return;  // the environment ends: the finalizer has been here
    Task task;
    {
      std::lock_guard lock(state->mutex);
      if (state->tasks.empty()) return;
      task = std::move(state->tasks.front());
      state->tasks.pop_front();
    }
    guarded(env, [&] { task(env); });
  }
  using Function = Napi::TypedThreadSafeFunction<State, void, run>;

  // The function carries wake-ups only, one for each task: what is in it when an environment ends is lost.
  struct State {
    void let_go() {
      if (gone) return;
      gone = true;
      function.Release();
    }
    void end() {
      std::deque<Task> dropped;  // destroyed without the lock
      std::lock_guard lock(mutex);
      gone = true;
      dropped.swap(tasks);
    }

    std::mutex mutex;
    bool gone = false;
    std::deque<Task> tasks;
    Function function;
  };

  std::shared_ptr<State> state_;
};

}  // namespace rdma_migrate::bindings
