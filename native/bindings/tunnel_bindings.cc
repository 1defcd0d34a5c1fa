#include "bindings/tunnel_bindings.h"

#include <memory>

#include "bindings/arguments.h"
#include "bindings/connection_binding.h"
#include "bindings/tunnel_stream.h"

namespace rdma_migrate::bindings {

void init_tunnel(Napi::Env env, Napi::Object exports) {
  const auto type =
      std::make_shared<Napi::FunctionReference>(Napi::Persistent(TunnelStreamBinding::define(env)));
  const auto create = [type](const Napi::CallbackInfo& info) {
    return TunnelStreamBinding::create(info.Env(), type, ConnectionBinding::endpoint_from_js(info[0]),
                                       u32_argument(info, 1, "ringBytes"));
  };
  exports.Set("createTunnelStream", Napi::Function::New(env, create, "createTunnelStream"));
}

}  // namespace rdma_migrate::bindings
