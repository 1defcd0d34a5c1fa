// NativeVerbsRegion of lib/native/verbs.ts: registered bytes of an ArrayBuffer or a SharedArrayBuffer.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>

#include "bindings/verbs_classes.h"

namespace rdma_migrate::bindings {

class VerbsRegionBinding final : public Napi::ObjectWrap<VerbsRegionBinding> {
 public:
  static Napi::Function define(Napi::Env env);
  using Register = std::function<std::unique_ptr<fabric::MemoryRegion>(fabric::Domain& domain,
                                                                       uint64_t address, uint64_t length)>;
  // The region, or a promise of it where registering takes time: a NIC pins the pages.
  static Napi::Value create(Napi::Env env, SharedVerbsClasses classes, std::shared_ptr<OpenDomain> domain,
                            Napi::Uint8Array memory, Register with);

  explicit VerbsRegionBinding(const Napi::CallbackInfo& info);

 private:
  // In this order: the region goes first, then what it lies in.
  struct Held {
    std::shared_ptr<OpenDomain> domain;
    Napi::Reference<Napi::Uint8Array> memory;
    std::unique_ptr<fabric::MemoryRegion> region;
  };

  Napi::Value close(const Napi::CallbackInfo& info);
  Napi::Value get_addr(const Napi::CallbackInfo& info);
  Napi::Value get_lkey(const Napi::CallbackInfo& info);
  Napi::Value get_rkey(const Napi::CallbackInfo& info);

  std::shared_ptr<Held> held_;
  uint64_t addr_ = 0;
  uint32_t lkey_ = 0, rkey_ = 0;
};

}  // namespace rdma_migrate::bindings
