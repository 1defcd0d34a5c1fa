// Work on the pool behind a JavaScript promise.
#pragma once

#include <napi.h>

#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "bindings/errors.h"
#include "bindings/jobs.h"

namespace rdma_migrate::bindings {

template <typename Work, typename Convert>
class PromiseJob final : public Job {
 public:
  using Result = std::invoke_result_t<Work&>;
  static constexpr bool kHasResult = !std::is_void_v<Result>;

  PromiseJob(Napi::Env env, Work work, Convert convert)
      : deferred_(Napi::Promise::Deferred::New(env)), work_(std::move(work)), convert_(std::move(convert)) {}

  Napi::Promise promise() const { return deferred_.Promise(); }

  void execute() override {
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

  void settle(Napi::Env env) override {
    try {
      answer(env);
    } catch (const Napi::Error&) {
      // Only an environment that is being torn down refuses to settle a promise, and there nobody is left to
      // tell.
    }
  }

 private:
  void answer(Napi::Env env) {
    if (error_) {
      deferred_.Reject(to_js_error(env, *error_).Value());
      return;
    }
    try {
      deferred_.Resolve(value(env));
    } catch (const Napi::Error& error) {
      deferred_.Reject(error.Value());
    }
  }

  Napi::Value value(Napi::Env env) {
    if constexpr (kHasResult) {
      return convert_(env, std::move(*result_));
    } else {
      return convert_(env);
    }
  }

  struct Nothing {};
  Napi::Promise::Deferred deferred_;
  Work work_;
  Convert convert_;
  std::optional<std::conditional_t<kHasResult, Result, Nothing>> result_;
  std::optional<Error> error_;
};

// Runs work() on a thread of the pool, then resolves with convert(env, result) (convert(env) if work returns
// nothing) on the JavaScript thread; rejects with RESOURCE_LIMIT when there is no thread to be had. Whatever
// the two capture is destroyed on the JavaScript thread after the promise has settled, so captured Napi
// references keep JavaScript objects alive for the work.
template <typename Work, typename Convert>
Napi::Promise run_async(Napi::Env env, WorkLane lane, Work work, Convert convert) {
  auto own = std::make_unique<PromiseJob<Work, Convert>>(env, std::move(work), std::move(convert));
  const Napi::Promise promise = own->promise();
  std::unique_ptr<Job> job = std::move(own);
  try {
    start_job(env, lane, job);
  } catch (const Error& error) {
    return rejected_promise(env, to_js_error(env, error));
  }
  return promise;
}

// The same for what has to be done in any case, as a close: where no thread is to be had it is done at once.
template <typename Work, typename Convert>
Napi::Promise run_anyway(Napi::Env env, WorkLane lane, Work work, Convert convert) {
  auto own = std::make_unique<PromiseJob<Work, Convert>>(env, std::move(work), std::move(convert));
  const Napi::Promise promise = own->promise();
  std::unique_ptr<Job> job = std::move(own);
  try {
    start_job(env, lane, job);
  } catch (const Error&) {
    job->execute();
    job->settle(env);
  }
  return promise;
}

// The same for work without a result: resolves with undefined.
template <typename Work>
Napi::Promise run_async(Napi::Env env, WorkLane lane, Work work) {
  return run_async(env, lane, std::move(work), [](Napi::Env e) -> Napi::Value { return e.Undefined(); });
}

}  // namespace rdma_migrate::bindings
