#include "bindings/transport_bindings.h"

#include <memory>

#include "bindings/async.h"
#include "bindings/connection_binding.h"
#include "bindings/device_bindings.h"
#include "bindings/listener_binding.h"
#include "bindings/options.h"
#include "iwarp/provider.h"

namespace rdma_migrate::bindings {

std::shared_ptr<fabric::Provider> provider_argument(const Napi::CallbackInfo& info) {
  const std::string name = to_text(info[0], "provider");
  if (name == "iwarp") return iwarp::make_provider();
  if (name != "verbs") throw bad_argument(info.Env(), "provider", "'iwarp' or 'verbs'");
  return guarded(info.Env(), [] { return device_provider(); });
}

namespace {

Napi::Value listen(const Napi::CallbackInfo& info, const SharedTransportClasses& classes) {
  auto provider = provider_argument(info);
  auto address = endpoint(object_argument(info, 1, "endpoint"));
  const auto options = queue_pair_options(object_argument(info, 2, "options"));
  if (!info[3].IsFunction()) throw bad_argument(info.Env(), "onRequest", "a function");
  if (!info[4].IsFunction()) throw bad_argument(info.Env(), "onFailed", "a function");
  if (!info[5].IsFunction()) throw bad_argument(info.Env(), "onStranger", "a function");
  return ListenerBinding::listen_async(
      info.Env(), classes, std::move(provider), std::move(address), options,
      {info[3].As<Napi::Function>(), info[4].As<Napi::Function>(), info[5].As<Napi::Function>()});
}

Napi::Value create_connection(const Napi::CallbackInfo& info, const SharedTransportClasses& classes) {
  const auto provider = provider_argument(info);
  const auto options = queue_pair_options(object_argument(info, 1, "options"));
  return ConnectionBinding::create(info.Env(), classes, *provider, options);
}

}  // namespace

void init_transport(Napi::Env env, Napi::Object exports) {
  const auto define = [env](auto function) { return Napi::Persistent(function(env)); };
  const auto classes = std::make_shared<const TransportClasses>(TransportClasses{
      define(ConnectionBinding::define), define(RequestBinding::define), define(ListenerBinding::define)});
  const auto set = [&](const char* name, auto function) {
    exports.Set(
        name,
        Napi::Function::New(
            env, [classes, function](const Napi::CallbackInfo& info) { return function(info, classes); },
            name));
  };
  set("listen", listen);
  set("createConnection", create_connection);
}

}  // namespace rdma_migrate::bindings
