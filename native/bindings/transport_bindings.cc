#include "bindings/transport_bindings.h"

#include <memory>

#include "bindings/async.h"
#include "bindings/connection_binding.h"
#include "bindings/listener_binding.h"
#include "bindings/options.h"
#include "iwarp/provider.h"

namespace rdma_migrate::bindings {
namespace {

// A new provider lives here.
std::shared_ptr<fabric::Provider> provider_argument(const Napi::CallbackInfo& info) {
  const std::string name = to_text(info[0], "provider");
  if (name == "iwarp") return iwarp::make_provider();
  throw to_js_error(info.Env(), Error("PROVIDER_UNAVAILABLE", "this build has no provider '" + name +
                                                                  "': use 'iwarp', the software RNIC"));
}

Napi::Value listen(const Napi::CallbackInfo& info) {
  auto provider = provider_argument(info);
  auto address = endpoint(object_argument(info, 1, "endpoint"));
  const auto options = connection_options(object_argument(info, 2, "options"));
  if (!info[3].IsFunction()) throw bad_argument(info.Env(), "onRequest", "a function");
  return ListenerBinding::listen_async(info.Env(), std::move(provider), std::move(address), options,
                                       info[3].As<Napi::Function>());
}

Napi::Value create_connection(const Napi::CallbackInfo& info) {
  const auto provider = provider_argument(info);
  const auto address = endpoint(object_argument(info, 1, "endpoint"));
  const auto options = connection_options(object_argument(info, 2, "options"));
  return ConnectionBinding::create(
      info.Env(),
      [&](fabric::ConnectionEvents& events) { return provider->connect_to(address, options, events); },
      options.max_send_wr);
}

}  // namespace

void init_transport(Napi::Env env, Napi::Object exports) {
  exports.Set("listen", Napi::Function::New<listen>(env, "listen"));
  exports.Set("createConnection", Napi::Function::New<create_connection>(env, "createConnection"));
}

}  // namespace rdma_migrate::bindings
