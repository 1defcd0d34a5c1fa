// NativeDirty of lib/native/dirty.ts: dirty trackers and digests of what was sent.
#pragma once

#include <napi.h>

#include <memory>

#include "dirty/page_digests.h"

namespace rdma_migrate::bindings {

void init_dirty(Napi::Env env, Napi::Object exports);

// What is behind a NativePageDigests. Throws a JavaScript Error: INVALID_ARGUMENT.
std::shared_ptr<dirty::PageDigests> digests_from_js(Napi::Value value);

}  // namespace rdma_migrate::bindings
