// NativeTransport of lib/native/transport.ts: listeners, requests, connections.
#pragma once

#include <napi.h>

namespace rdma_migrate::bindings {

void init_transport(Napi::Env env, Napi::Object exports);

}  // namespace rdma_migrate::bindings
