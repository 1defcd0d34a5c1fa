// What lib/native/datagram.ts declares.
#pragma once

#include <napi.h>

namespace rdma_migrate::bindings {

void init_datagram(Napi::Env env, Napi::Object exports);

}  // namespace rdma_migrate::bindings
