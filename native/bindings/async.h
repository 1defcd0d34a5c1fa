// Work on libuv's worker threads behind a JavaScript promise, and how an rdma_migrate::Error becomes a
// JavaScript Error.
#pragma once

#include <napi.h>

#include <exception>
#include <new>
#include <optional>
#include <system_error>
#include <type_traits>
#include <utility>

#include "error.h"
#include "thread.h"

namespace rdma_migrate::bindings {

// An Error with `code`, and `errno` where a system call was behind it.
inline Napi::Error to_js_error(Napi::Env env, const Error& error) {
  Napi::Error js = Napi::Error::New(env, error.what());
  js.Set("code", Napi::String::New(env, error.code()));
  if (error.sys_errno() != 0) js.Set("errno", Napi::Number::New(env, error.sys_errno()));
  return js;
}

// The exception that is being handled, as an Error. Call it from a catch block only.
inline Error current_error() {
  try {
    throw;
  } catch (const Error& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return Error("OUT_OF_MEMORY", "the process has no memory left for this operation");
  } catch (const std::system_error& error) {
    return thread_limit(error.code().value());
  } catch (const std::exception& error) {
    return Error("INTERNAL", error.what());
  }
}

// Runs the body of a synchronous JavaScript function; what it throws is thrown in JavaScript.
template <typename Body>
auto guarded(Napi::Env env, Body&& body) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw to_js_error(env, current_error());
  }
}

// Runs the body of a JavaScript function that answers with a promise; what it throws is a rejection, so that
// callers have one way to handle errors.
template <typename Body>
Napi::Value guarded_promise(Napi::Env env, Body&& body) {
  // Made for failures only: a deferred that nobody settles is never freed.
  const auto rejected = [env](const Napi::Error& error) {
    const auto deferred = Napi::Promise::Deferred::New(env);
    deferred.Reject(error.Value());
    return deferred.Promise();
  };
  try {
    return body();
  } catch (const Napi::Error& error) {
    return rejected(error);
  } catch (...) {
    return rejected(to_js_error(env, current_error()));
  }
}

// One job. Owns its two callables and what they capture; deletes itself on the JavaScript thread when it has
// settled.
template <typename Work, typename Convert>
class PromiseWorker final : public Napi::AsyncWorker {
 public:
  using Result = std::invoke_result_t<Work&>;
  static constexpr bool kHasResult = !std::is_void_v<Result>;

  PromiseWorker(Napi::Env env, Work work, Convert convert)
      : Napi::AsyncWorker(env, "rdma-migrate"),
        deferred_(Napi::Promise::Deferred::New(env)),
        work_(std::move(work)),
        convert_(std::move(convert)) {}

  Napi::Promise promise() const { return deferred_.Promise(); }

 protected:
  void Execute() override {  // no V8 here
    try {
      if constexpr (kHasResult) {
        result_.emplace(work_());
      } else {
        work_();
      }
    } catch (...) {
      error_.emplace(current_error());
    }
  }

  void OnOK() override {
    try {
      settle();
    } catch (const Napi::Error&) {
      // Only an environment that is being torn down refuses to settle a promise, and there nobody is left to
      // tell.
    }
  }

 private:
  void settle() {
    if (error_) {
      deferred_.Reject(to_js_error(Env(), *error_).Value());
      return;
    }
    try {
      deferred_.Resolve(value());
    } catch (const Napi::Error& error) {
      deferred_.Reject(error.Value());
    }
  }

  Napi::Value value() {
    if constexpr (kHasResult) {
      return convert_(Env(), std::move(*result_));
    } else {
      return convert_(Env());
    }
  }

  struct Nothing {};
  Napi::Promise::Deferred deferred_;
  Work work_;
  Convert convert_;
  std::optional<std::conditional_t<kHasResult, Result, Nothing>> result_;
  std::optional<Error> error_;
};

// Runs work() on a worker thread, then resolves with convert(env, result) (convert(env) if work returns
// nothing) on the JavaScript thread. Whatever the two capture is destroyed on the JavaScript thread after the
// promise has settled, so captured Napi references keep JavaScript objects alive for the worker.
template <typename Work, typename Convert>
Napi::Promise run_async(Napi::Env env, Work work, Convert convert) {
  auto* worker = new PromiseWorker<Work, Convert>(env, std::move(work), std::move(convert));
  Napi::Promise promise = worker->promise();
  worker->Queue();
  return promise;
}

// The same for work without a result: resolves with undefined.
template <typename Work>
Napi::Promise run_async(Napi::Env env, Work work) {
  return run_async(env, std::move(work), [](Napi::Env e) -> Napi::Value { return e.Undefined(); });
}

}  // namespace rdma_migrate::bindings
