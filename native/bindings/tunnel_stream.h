// NativeTunnelStream of lib/native/tunnel.ts: a stream over an established connection.
#pragma once

#include <napi.h>

#include <memory>

#include "bindings/js_queue.h"
#include "tunnel/stream.h"

namespace rdma_migrate::bindings {

class TunnelStreamBinding final : public Napi::ObjectWrap<TunnelStreamBinding> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Value create(Napi::Env env, const std::shared_ptr<Napi::FunctionReference>& type,
                            std::shared_ptr<engine::Endpoint> endpoint, uint32_t ring_bytes);

  explicit TunnelStreamBinding(const Napi::CallbackInfo& info);
  ~TunnelStreamBinding() override;

 private:
  Napi::Value start(const Napi::CallbackInfo& info);
  void reset(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);
  Napi::Value get_ring(const Napi::CallbackInfo& info);
  Napi::Value get_bytes_sent(const Napi::CallbackInfo& info);
  Napi::Value get_bytes_received(const Napi::CallbackInfo& info);

  std::shared_ptr<tunnel::Stream> stream_;  // null once this has been closed
  std::shared_ptr<JsQueue> queue_;
  std::optional<Napi::Promise::Deferred> ended_;
  uint64_t bytes_sent_ = 0, bytes_received_ = 0;
};

}  // namespace rdma_migrate::bindings
