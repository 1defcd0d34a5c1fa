// NativeVerbs of lib/native/verbs.ts.
#pragma once

#include <napi.h>

namespace rdma_migrate::bindings {

void init_verbs(Napi::Env env, Napi::Object exports);

}  // namespace rdma_migrate::bindings
