#include "bindings/listener_binding.h"

#include <utility>

#include "bindings/arguments.h"
#include "bindings/async.h"
#include "bindings/options.h"

namespace rdma_migrate::bindings {
namespace {

using OwnedRequest = std::unique_ptr<fabric::ConnectionRequest>;

constexpr napi_type_tag kRequestTag = {0x51f0c2a79be84d13, 0x9a6e37d40c8b25f1};

std::shared_ptr<Napi::FunctionReference> shared_reference(Napi::Function function) {
  return std::make_shared<Napi::FunctionReference>(Napi::Persistent(function));
}

}  // namespace

Napi::Function RequestBinding::define(Napi::Env env) {
  return DefineClass(env, "NativeConnectionRequest",
                     {
                         InstanceMethod<&RequestBinding::reject>("reject"),
                         InstanceMethod<&RequestBinding::drop>("drop"),
                         InstanceAccessor<&RequestBinding::get_private_data>("privateData"),
                         InstanceAccessor<&RequestBinding::get_peer_address>("peerAddress"),
                     });
}

Napi::Object RequestBinding::create(const SharedTransportClasses& classes, OwnedRequest request) {
  return classes->request.New({Napi::External<OwnedRequest>::New(classes->request.Env(), &request)});
}

RequestBinding::RequestBinding(const Napi::CallbackInfo& info) : Napi::ObjectWrap<RequestBinding>(info) {
  if (info.Length() != 1 || !info[0].IsExternal()) {
    throw Napi::TypeError::New(info.Env(), "NativeConnectionRequest cannot be constructed: listen()");
  }
  info.This().As<Napi::Object>().TypeTag(&kRequestTag);
  request_ = std::move(*info[0].As<Napi::External<OwnedRequest>>().Data());
  const auto data = request_->private_data();
  private_data_.assign(data.begin(), data.end());
  peer_address_ = request_->peer_address();
}

OwnedRequest RequestBinding::take_from_js(const Napi::Value& value) {
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&kRequestTag))
    throw bad_argument(value.Env(), "request", "a request of listen()");
  OwnedRequest request = std::move(Unwrap(value.As<Napi::Object>())->request_);
  if (request) return request;
  throw to_js_error(
      value.Env(), Error("INVALID_ARGUMENT", "this connection request has been answered or dropped already"));
}

void RequestBinding::give_back(const Napi::Value& value, OwnedRequest request) {
  Unwrap(value.As<Napi::Object>())->request_ = std::move(request);
}

void RequestBinding::reject(const Napi::CallbackInfo& info) {
  const auto data = bytes_argument(info, 0, "privateData");
  guarded(info.Env(), [&] {
    if (const OwnedRequest request = std::move(request_)) request->reject(data);
  });
}

void RequestBinding::drop(const Napi::CallbackInfo&) { request_.reset(); }

Napi::Value RequestBinding::get_private_data(const Napi::CallbackInfo& info) {
  return Napi::Buffer<uint8_t>::Copy(info.Env(), private_data_.data(), private_data_.size());
}

Napi::Value RequestBinding::get_peer_address(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), peer_address_);
}

// The provider goes after its listener, and the queue after both.
struct ListenerBinding::Held {
  std::shared_ptr<JsQueue> queue;
  std::shared_ptr<fabric::Provider> provider;
  std::unique_ptr<fabric::Listener> listener;
};

Napi::Function ListenerBinding::define(Napi::Env env) {
  return DefineClass(env, "NativeListener",
                     {
                         InstanceMethod<&ListenerBinding::close>("close"),
                         InstanceAccessor<&ListenerBinding::get_address>("address"),
                         InstanceAccessor<&ListenerBinding::get_port>("port"),
                     });
}

Napi::Value ListenerBinding::listen_async(Napi::Env env, SharedTransportClasses classes,
                                          std::shared_ptr<fabric::Provider> provider,
                                          fabric::Endpoint endpoint, fabric::QueuePairOptions options,
                                          const Callbacks& given) {
  auto held = std::make_shared<Held>(
      Held{std::make_shared<JsQueue>(env, "rdma-migrate listener"), std::move(provider), nullptr});
  fabric::ListenerCallbacks callbacks;
  const auto queue = std::weak_ptr<JsQueue>(held->queue);
  callbacks.request = [queue, callback = shared_reference(given.request),
                       classes](std::unique_ptr<fabric::ConnectionRequest> request) {
    const auto open = queue.lock();
    if (!open) return;
    // std::function wants copies; the request has one owner. It waits in this queue as long as the event loop
    // is busy, and counts as unanswered: the listener takes no more than so many.
    auto shared = std::make_shared<std::unique_ptr<fabric::ConnectionRequest>>(std::move(request));
    open->post([shared, callback, classes](Napi::Env js) {
      const Napi::HandleScope scope(js);
      callback->Call({RequestBinding::create(classes, std::move(*shared))});
    });
  };
  callbacks.failed = [queue, callback = shared_reference(given.failed)](const Error& error) {
    const auto open = queue.lock();
    if (!open) return;
    open->post([error, callback](Napi::Env js) {
      const Napi::HandleScope scope(js);
      callback->Call({to_js_error(js, error).Value()});
    });
  };
  callbacks.stranger = [queue,
                        callback = shared_reference(given.stranger)](const fabric::Stranger& stranger) {
    const auto open = queue.lock();
    if (!open) return;
    open->post([stranger, callback](Napi::Env js) {
      const Napi::HandleScope scope(js);
      auto value = Napi::Object::New(js);
      value.Set("address", stranger.address);
      value.Set("spoke", stranger.spoke);
      value.Set("count", stranger.count);
      callback->Call({value});
    });
  };
  return run_async(
      env, WorkLane::kLookUp,
      [held, endpoint, options, callbacks = std::move(callbacks)] {
        held->listener = held->provider->listen(endpoint, options, callbacks);
      },
      [held, classes](Napi::Env js) -> Napi::Value {
        std::shared_ptr<Held> handed = held;
        return classes->listener.New({Napi::External<std::shared_ptr<Held>>::New(js, &handed)});
      });
}

ListenerBinding::ListenerBinding(const Napi::CallbackInfo& info) : Napi::ObjectWrap<ListenerBinding>(info) {
  if (info.Length() != 1 || !info[0].IsExternal()) {
    throw Napi::TypeError::New(info.Env(), "NativeListener cannot be constructed: use listen()");
  }
  held_ = *info[0].As<Napi::External<std::shared_ptr<Held>>>().Data();
  address_ = held_->listener->address();
  port_ = held_->listener->port();
}

ListenerBinding::~ListenerBinding() {
  if (!held_) return;
  held_->listener->close();
  held_->queue->release();
}

Napi::Value ListenerBinding::close(const Napi::CallbackInfo& info) {
  auto held = std::move(held_);
  return run_anyway(
      info.Env(), WorkLane::kClose,
      [held] {
        if (held) held->listener->close();
      },
      [held](Napi::Env env) -> Napi::Value {
        if (held) held->queue->release();
        return env.Undefined();
      });
}

Napi::Value ListenerBinding::get_address(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), address_);
}
Napi::Value ListenerBinding::get_port(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), port_);
}

}  // namespace rdma_migrate::bindings
