// NativeBitmap of lib/native/memory.ts.
#pragma once

#include <napi.h>

#include <memory>

#include "memory/bitmap.h"

namespace rdma_migrate::bindings {

class BitmapBinding final : public Napi::ObjectWrap<BitmapBinding> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Object create(const Napi::Function& bitmap_class, const Napi::Value& pages);

  // The class can be reached from an object; what `new` of it gives has no bitmap and is refused everywhere.
  explicit BitmapBinding(const Napi::CallbackInfo& info);

 private:
  friend std::shared_ptr<memory::Bitmap> bitmap_from_js(Napi::Value value);

  void set_range(const Napi::CallbackInfo& info);
  void clear_range(const Napi::CallbackInfo& info);
  Napi::Value count(const Napi::CallbackInfo& info);
  Napi::Value shares(const Napi::CallbackInfo& info);
  Napi::Value get_pages(const Napi::CallbackInfo& info);

  memory::Bitmap& bitmap(const Napi::CallbackInfo& info) const;

  std::shared_ptr<memory::Bitmap> bitmap_;
};

}  // namespace rdma_migrate::bindings
