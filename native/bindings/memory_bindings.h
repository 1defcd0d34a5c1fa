// NativeMemory of lib/native/memory.ts: mappings, bitmaps, page readers and writers.
#pragma once

#include <napi.h>

#include <memory>

#include "memory/bitmap.h"
#include "memory/mapping.h"

namespace rdma_migrate::bindings {

void init_memory(Napi::Env env, Napi::Object exports);

// What is behind a NativeMapping or NativeBitmap. Whoever holds a mapping keeps it mapped, also after its
// close(). Throws a JavaScript Error: INVALID_ARGUMENT (something else), CLOSED.
std::shared_ptr<memory::Mapping> mapping_from_js(Napi::Value value);
std::shared_ptr<memory::Bitmap> bitmap_from_js(Napi::Value value);

}  // namespace rdma_migrate::bindings
