// What becomes of the links of what outlives them, for who asks for one change after the other.
#pragma once

#include <napi.h>

#include <deque>
#include <optional>

#include "bindings/errors.h"

namespace rdma_migrate::bindings {

// On the JavaScript thread.
class LinkChanges {
 public:
  struct Change {
    uint32_t channel;
    std::optional<Error> lost;  // none: it goes on
  };

  void push(Napi::Env env, Change change) {
    changes_.push_back(std::move(change));
    settle(env);
  }
  // A promise of NativeLinkChange, or of null once it has ended.
  Napi::Value next(Napi::Env env) {
    const auto deferred = Napi::Promise::Deferred::New(env);
    waiters_.push_back(deferred);
    settle(env);
    return deferred.Promise();
  }
  void end(Napi::Env env) {
    ended_ = true;
    settle(env);
  }

 private:
  void settle(Napi::Env env) {
    while (!waiters_.empty() && (ended_ || !changes_.empty())) {
      const auto deferred = waiters_.front();
      waiters_.pop_front();
      if (changes_.empty()) {
        deferred.Resolve(env.Null());
        continue;
      }
      const Change change = changes_.front();
      changes_.pop_front();
      auto value = Napi::Object::New(env);
      value.Set("channel", change.channel);
      value.Set("lost", change.lost ? to_js_error(env, *change.lost).Value() : env.Null());
      deferred.Resolve(value);
    }
  }

  std::deque<Change> changes_;  // that nobody has asked for
  std::deque<Napi::Promise::Deferred> waiters_;
  bool ended_ = false;
};

}  // namespace rdma_migrate::bindings
