// NativePageDigests of lib/native/dirty.ts.
#pragma once

#include <napi.h>

#include <memory>

#include "dirty/page_digests.h"

namespace rdma_migrate::bindings {

class DigestsBinding final : public Napi::ObjectWrap<DigestsBinding> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Object create(const Napi::Function& digests_class,
                             std::shared_ptr<dirty::PageDigests> digests);

  // The class can be reached from an object; what `new` of it gives has no table and is refused everywhere.
  explicit DigestsBinding(const Napi::CallbackInfo& info);

 private:
  friend std::shared_ptr<dirty::PageDigests> digests_from_js(Napi::Value value);

  void set_zero(const Napi::CallbackInfo& info);
  Napi::Value get_pages(const Napi::CallbackInfo& info);

  dirty::PageDigests& digests() const;

  std::shared_ptr<dirty::PageDigests> digests_;
};

}  // namespace rdma_migrate::bindings
