// NativeTransport of lib/native/transport.ts: listeners, requests, connections.
#pragma once

#include <napi.h>

#include <memory>

#include "fabric/fabric.h"

namespace rdma_migrate::bindings {

// The provider that the first argument names: 'iwarp' or 'verbs'. Throws a JavaScript Error:
// INVALID_ARGUMENT, PROVIDER_UNAVAILABLE.
std::shared_ptr<fabric::Provider> provider_argument(const Napi::CallbackInfo& info);

void init_transport(Napi::Env env, Napi::Object exports);

}  // namespace rdma_migrate::bindings
