// NativeConnection of lib/native/transport.ts: an endpoint, its events turned into promises on the JavaScript
// thread.
#pragma once

#include <napi.h>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "bindings/js_queue.h"
#include "bindings/link_changes.h"
#include "bindings/registrations.h"
#include "bindings/transport_classes.h"
#include "engine/endpoint.h"

namespace rdma_migrate::bindings {

class ConnectionBinding final : public Napi::ObjectWrap<ConnectionBinding>, private engine::EndpointObserver {
 public:
  static Napi::Function define(Napi::Env env);
  // Makes the JavaScript object.
  static Napi::Object create(Napi::Env env, const SharedTransportClasses& classes, fabric::Provider& provider,
                             const fabric::QueuePairOptions& options);
  // The endpoint behind a NativeConnection; null once that has been closed. Throws a JavaScript Error:
  // INVALID_ARGUMENT.
  static std::shared_ptr<engine::Endpoint> endpoint_from_js(const Napi::Value& value);

  explicit ConnectionBinding(const Napi::CallbackInfo& info);
  ~ConnectionBinding() override;

 private:
  using Deferred = Napi::Promise::Deferred;
  using Totals = engine::Endpoint::Totals;
  using Deferreds = std::map<uint64_t, Deferred>;

  void open(Napi::Env env, fabric::Provider& provider, const fabric::QueuePairOptions& options);

  Napi::Value connect(const Napi::CallbackInfo& info);
  Napi::Value accept(const Napi::CallbackInfo& info);
  Napi::Value connect_rail(const Napi::CallbackInfo& info);
  Napi::Value accept_rail(const Napi::CallbackInfo& info);
  Napi::Value barrier(const Napi::CallbackInfo& info);
  void release_rails(const Napi::CallbackInfo& info);
  Napi::Value send(const Napi::CallbackInfo& info);
  Napi::Value receive(const Napi::CallbackInfo& info);
  Napi::Value link_change(const Napi::CallbackInfo& info);
  Napi::Value protect(const Napi::CallbackInfo& info);
  void resume_receive(const Napi::CallbackInfo& info);
  Napi::Value register_spans(const Napi::CallbackInfo& info);
  Napi::Value deregister(const Napi::CallbackInfo& info);
  Napi::Value observe_placement(const Napi::CallbackInfo& info);
  Napi::Value revoke_remote_access(const Napi::CallbackInfo& info);
  Napi::Value write(const Napi::CallbackInfo& info);
  void cancel_writes(const Napi::CallbackInfo& info);
  void set_max_bandwidth(const Napi::CallbackInfo& info);
  void allow_large_segments(const Napi::CallbackInfo& info);
  Napi::Value stats(const Napi::CallbackInfo& info);
  Napi::Value disconnect(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);
  Napi::Value get_counters(const Napi::CallbackInfo& info);
  Napi::Value get_rails(const Napi::CallbackInfo& info);
  Napi::Value get_info(const Napi::CallbackInfo& info);
  Napi::Value get_closed(const Napi::CallbackInfo& info);

  // EndpointObserver: processing threads.
  void established(fabric::Bytes private_data) override;
  void message_arrived() override;
  void message_sent(uint64_t token, bool ok) override;
  void rail_established(uint64_t token, fabric::Bytes private_data) override;
  void rail_refused(uint64_t token, Error reason) override;
  void barrier_passed(uint64_t token) override;
  void link_changed(uint32_t channel, std::optional<Error> lost) override;
  void receive_failed(Error reason) override;
  void closed(std::optional<Error> reason) override;

  // JavaScript thread.
  Napi::Value begin_handshake(Napi::Env env, const std::function<void()>& start);
  // A promise in `waiting`, settled by id, of what start(id) begins. Throws what that throws, and the end.
  template <typename Start>
  Napi::Value begin(Napi::Env env, Deferreds& waiting, const Start& start);
  template <typename Start>
  Napi::Value promised(Napi::Env env, Deferreds& waiting, const Start& start);
  void settle_receives(Napi::Env env);
  void settle_write(Napi::Env env, uint64_t id, const engine::WriteResult& result);
  void handle_closed(Napi::Env env, std::optional<Error> reason);
  void let_go();
  Napi::Error end_error(Napi::Env env) const;

  // Shared with work under way. Null once this has been closed.
  std::shared_ptr<engine::Endpoint> endpoint_;
  // Its regions must go before the endpoint's domain does.
  const std::shared_ptr<Registrations> registrations_ = std::make_shared<Registrations>();
  std::shared_ptr<JsQueue> queue_;
  SharedTransportClasses classes_;

  // A deferred may be settled once only; its promise is a handle of the call that made it.
  bool handshake_begun_ = false;
  std::optional<Deferred> handshake_;
  std::optional<Deferred> closed_;
  Napi::ObjectReference closed_promise_;
  std::deque<Deferred> receives_;
  LinkChanges link_changes_;
  Deferreds sends_, writes_, rails_, barriers_;
  uint64_t next_id_ = 1;
  bool ended_ = false;
  fabric::QueuePairInfo last_info_;
  Totals last_totals_;
  std::optional<Error> reason_;
  // Known before the end is: messages may still be sent.
  std::optional<Error> receive_failure_;
  Napi::ObjectReference counters_;
  Napi::ObjectReference close_promise_;
};

}  // namespace rdma_migrate::bindings
