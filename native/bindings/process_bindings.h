#pragma once
// Other processes of this host.
#include <napi.h>

namespace rdma_migrate::bindings {

void init_processes(Napi::Env env, Napi::Object exports);

}  // namespace rdma_migrate::bindings
