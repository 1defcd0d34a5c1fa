// What a connection's native events are to JavaScript: promises that are settled.
#include <string>
#include <utility>

#include "bindings/connection_binding.h"
#include "bindings/errors.h"
#include "bindings/write_job.h"

namespace rdma_migrate::bindings {
namespace {

Napi::Value bytes_to_js(Napi::Env env, const fabric::Bytes& bytes) {
  return Napi::Buffer<uint8_t>::Copy(env, bytes.data(), bytes.size());
}

}  // namespace

void ConnectionBinding::established(fabric::Bytes private_data) {
  queue_->post([this, data = std::move(private_data)](Napi::Env env) {
    if (const auto deferred = std::exchange(handshake_, std::nullopt))
      deferred->Resolve(bytes_to_js(env, data));
  });
}

void ConnectionBinding::message_arrived() {
  queue_->post([this](Napi::Env env) { settle_receives(env); });
}

void ConnectionBinding::message_sent(uint64_t token, bool ok) {
  queue_->post([this, token, ok](Napi::Env env) {
    auto entry = sends_.extract(token);
    if (entry.empty()) return;
    if (ok) {
      entry.mapped().Resolve(env.Undefined());
    } else {
      entry.mapped().Reject(end_error(env).Value());
    }
  });
}

void ConnectionBinding::rail_established(uint64_t token, fabric::Bytes private_data) {
  queue_->post([this, token, data = std::move(private_data)](Napi::Env env) {
    if (auto entry = rails_.extract(token)) entry.mapped().Resolve(bytes_to_js(env, data));
  });
}

void ConnectionBinding::rail_refused(uint64_t token, Error reason) {
  queue_->post([this, token, reason = std::move(reason)](Napi::Env env) {
    if (auto entry = rails_.extract(token)) entry.mapped().Reject(to_js_error(env, reason).Value());
  });
}

void ConnectionBinding::barrier_passed(uint64_t token) {
  queue_->post([this, token](Napi::Env env) {
    if (auto entry = barriers_.extract(token)) entry.mapped().Resolve(env.Undefined());
  });
}

void ConnectionBinding::settle_write(Napi::Env env, uint64_t id, const engine::WriteResult& result) {
  auto entry = writes_.extract(id);
  if (entry.empty()) return;
  if (result.ok) {
    entry.mapped().Resolve(write_result_to_js(env, result));
  } else {
    entry.mapped().Reject((result.error ? to_js_error(env, *result.error) : end_error(env)).Value());
  }
}

void ConnectionBinding::link_changed(uint32_t channel, std::optional<Error> lost) {
  queue_->post([this, change = LinkChanges::Change{channel, std::move(lost)}](Napi::Env env) {
    link_changes_.push(env, change);
  });
}

void ConnectionBinding::receive_failed(Error reason) {
  queue_->post([this, reason = std::move(reason)](Napi::Env env) {
    receive_failure_ = reason;
    settle_receives(env);
  });
}

void ConnectionBinding::closed(std::optional<Error> reason) {
  queue_->post([this, reason = std::move(reason)](Napi::Env env) { handle_closed(env, reason); });
}

void ConnectionBinding::settle_receives(Napi::Env env) {
  while (!receives_.empty()) {
    std::optional<fabric::Bytes> message;
    std::optional<Error> failure = ended_ ? reason_ : receive_failure_;
    bool answered = ended_ || receive_failure_;
    try {
      if (endpoint_) message = endpoint_->take_message();
    } catch (...) {
      failure = current_error();
      answered = true;
    }
    if (!message && !answered) return;
    const Deferred deferred = receives_.front();
    receives_.pop_front();
    if (message) {
      deferred.Resolve(bytes_to_js(env, *message));
    } else if (failure) {
      deferred.Reject(to_js_error(env, *failure).Value());
    } else {
      deferred.Resolve(env.Null());
    }
  }
}

void ConnectionBinding::handle_closed(Napi::Env env, std::optional<Error> reason) {
  ended_ = true;
  reason_ = std::move(reason);
  const Napi::Value error = end_error(env).Value();
  if (const auto deferred = std::exchange(handshake_, std::nullopt)) deferred->Reject(error);
  settle_receives(env);
  link_changes_.end(env);
  for (Deferreds* waiting : {&sends_, &writes_, &rails_, &barriers_}) {
    for (auto& [id, deferred] : *waiting) deferred.Reject(error);
    waiting->clear();
  }
  closed_->Resolve(reason_ ? error : env.Null());
  queue_->unref(env);
}

Napi::Error ConnectionBinding::end_error(Napi::Env env) const {
  if (reason_) return to_js_error(env, *reason_);
  return to_js_error(env, Error("CONNECTION_CLOSED", "the connection has ended"));
}

}  // namespace rdma_migrate::bindings
