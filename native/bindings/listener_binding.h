// NativeListener and NativeConnectionRequest of lib/native/transport.ts.
#pragma once

#include <napi.h>

#include <memory>
#include <string>

#include "bindings/js_queue.h"
#include "bindings/transport_classes.h"
#include "fabric/fabric.h"

namespace rdma_migrate::bindings {

// A request that nobody answers is dropped when it is garbage collected.
class RequestBinding final : public Napi::ObjectWrap<RequestBinding> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Object create(const SharedTransportClasses& classes,
                             std::unique_ptr<fabric::ConnectionRequest> request);
  // The request behind a NativeConnectionRequest, once: whoever takes it answers it. Throws a JavaScript
  // Error: INVALID_ARGUMENT.
  static std::unique_ptr<fabric::ConnectionRequest> take_from_js(const Napi::Value& value);
  // Of one that was taken from this value: it can be answered again.
  static void give_back(const Napi::Value& value, std::unique_ptr<fabric::ConnectionRequest> request);

  explicit RequestBinding(const Napi::CallbackInfo& info);

 private:
  void reject(const Napi::CallbackInfo& info);
  void drop(const Napi::CallbackInfo& info);
  Napi::Value get_private_data(const Napi::CallbackInfo& info);
  Napi::Value get_peer_address(const Napi::CallbackInfo& info);

  // It counts as unanswered, of which a listener bounds the number, until it goes.
  std::unique_ptr<fabric::ConnectionRequest> request_;
  fabric::Bytes private_data_;
  std::string peer_address_;
};

class ListenerBinding final : public Napi::ObjectWrap<ListenerBinding> {
 public:
  struct Callbacks {
    Napi::Function request;
    Napi::Function failed;
    Napi::Function stranger;
  };

  static Napi::Function define(Napi::Env env);
  // Resolves the name and binds on a thread of the pool.
  static Napi::Value listen_async(Napi::Env env, SharedTransportClasses classes,
                                  std::shared_ptr<fabric::Provider> provider, fabric::Endpoint endpoint,
                                  fabric::QueuePairOptions options, const Callbacks& callbacks);

  explicit ListenerBinding(const Napi::CallbackInfo& info);
  ~ListenerBinding() override;

 private:
  struct Held;

  Napi::Value close(const Napi::CallbackInfo& info);
  Napi::Value get_address(const Napi::CallbackInfo& info);
  Napi::Value get_port(const Napi::CallbackInfo& info);

  std::shared_ptr<Held> held_;
  std::string address_;
  uint16_t port_ = 0;
};

}  // namespace rdma_migrate::bindings
