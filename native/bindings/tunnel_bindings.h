// What lib/native/tunnel.ts declares.
#pragma once

#include <napi.h>

namespace rdma_migrate::bindings {

void init_tunnel(Napi::Env env, Napi::Object exports);

}  // namespace rdma_migrate::bindings
