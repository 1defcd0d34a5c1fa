// Runs tasks on the JavaScript thread, posted from any thread, in order. One owner releases it on the
// JavaScript thread.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <mutex>

namespace rdma_migrate::bindings {

class JsQueue {
 public:
  using Task = std::function<void(Napi::Env)>;

  JsQueue(Napi::Env env, const char* name) : state_(std::make_shared<State>()) {
    const auto nothing = Napi::Function::New(env, [](const Napi::CallbackInfo&) {});
    // A terminated worker's environment frees the function although we hold a reference: the finalizer comes
    // before.
    state_->function = Napi::ThreadSafeFunction::New(env, nothing, name, /*unlimited*/ 0, /*threads*/ 1,
                                                     [state = state_](Napi::Env) { state->mark_gone(); });
  }
  ~JsQueue() { release(); }

  // Any thread. A task posted after release, or while Node shuts the environment down, is dropped.
  void post(Task task) {
    std::lock_guard lock(state_->mutex);
    if (state_->gone) return;
    auto owned = std::make_unique<Task>(std::move(task));
    const napi_status status = state_->function.NonBlockingCall(owned.get(), run);
    if (status == napi_ok) {
      owned.release();
    } else if (status == napi_closing) {
      state_->gone = true;  // Node has taken our reference with that answer
    }
  }

  // Lets the process end although the queue is open. JavaScript thread only.
  void unref(Napi::Env env) {
    std::lock_guard lock(state_->mutex);
    if (!state_->gone) state_->function.Unref(env);
  }

  // Tasks posted so far still run.
  void release() {
    std::lock_guard lock(state_->mutex);
    if (state_->gone) return;
    state_->gone = true;
    state_->function.Release();
  }

 private:
  struct State {
    void mark_gone() {
      std::lock_guard lock(mutex);
      gone = true;
    }

    std::mutex mutex;
    bool gone = false;
    Napi::ThreadSafeFunction function;
  };

  static void run(Napi::Env env, Napi::Function, Task* posted) {
    const std::unique_ptr<Task> task(posted);
    if (env != nullptr) (*task)(env);
  }

  std::shared_ptr<State> state_;
};

}  // namespace rdma_migrate::bindings
