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

  JsQueue(Napi::Env env, const char* name)
      : function_(Napi::ThreadSafeFunction::New(
            env, Napi::Function::New(env, [](const Napi::CallbackInfo&) {}), name,
            /*unlimited*/ 0, /*threads*/ 1)) {}
  ~JsQueue() { release(); }

  // Any thread. A task posted after release, or while Node shuts the environment down, is dropped.
  void post(Task task) {
    std::lock_guard lock(mutex_);
    if (released_) return;
    auto owned = std::make_unique<Task>(std::move(task));
    const napi_status status =
        function_.NonBlockingCall(owned.get(), [](Napi::Env env, Napi::Function, Task* posted) {
          const std::unique_ptr<Task> run(posted);
          if (env != nullptr) (*run)(env);
        });
    if (status == napi_ok) {
      owned.release();
    } else if (status == napi_closing) {
      released_ = true;  // Node has taken our reference with that answer
    }
  }

  // Lets the process end although the queue is open. JavaScript thread only.
  void unref(Napi::Env env) {
    std::lock_guard lock(mutex_);
    if (!released_) function_.Unref(env);
  }

  // Tasks posted so far still run.
  void release() {
    std::lock_guard lock(mutex_);
    if (released_) return;
    released_ = true;
    function_.Release();
  }

 private:
  std::mutex mutex_;
  bool released_ = false;
  Napi::ThreadSafeFunction function_;
};

}  // namespace rdma_migrate::bindings
