// Exports only: what each group means is in lib/native/*.ts.
#include <napi.h>

#include "bindings/datagram_bindings.h"
#include "bindings/device_bindings.h"
#include "bindings/dirty_bindings.h"
#include "bindings/memory_bindings.h"
#include "bindings/process_bindings.h"
#include "bindings/transport_bindings.h"
#include "bindings/tunnel_bindings.h"
#include "bindings/verbs_bindings.h"

namespace {

Napi::Object init(Napi::Env env, Napi::Object exports) {
  rdma_migrate::bindings::init_memory(env, exports);
  rdma_migrate::bindings::init_dirty(env, exports);
  rdma_migrate::bindings::init_transport(env, exports);
  rdma_migrate::bindings::init_devices(env, exports);
  rdma_migrate::bindings::init_verbs(env, exports);
  rdma_migrate::bindings::init_datagram(env, exports);
  rdma_migrate::bindings::init_tunnel(env, exports);
  rdma_migrate::bindings::init_processes(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(rdma_migrate, init)
