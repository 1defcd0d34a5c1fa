// NativeMemoryRegion of lib/native/transport.ts.
#pragma once

#include <napi.h>

#include <memory>

#include "bindings/transport_classes.h"
#include "engine/endpoint.h"
#include "memory/mapping.h"

namespace rdma_migrate::bindings {

class RegionBinding final : public Napi::ObjectWrap<RegionBinding> {
 public:
  static Napi::Function define(Napi::Env env);
  // Of the software RNIC, the region: registering is an entry in a table there. Of a device, a promise:
  // pinning gigabytes takes seconds.
  static Napi::Value register_memory(Napi::Env env, const SharedTransportClasses& classes,
                                     std::shared_ptr<engine::Endpoint> endpoint,
                                     std::shared_ptr<memory::Mapping> mapping, uint64_t offset,
                                     uint64_t length, uint32_t access);

  explicit RegionBinding(const Napi::CallbackInfo& info);

 private:
  // In this order: the region goes first, then what it lies in.
  struct Held {
    std::shared_ptr<engine::Endpoint> endpoint;
    std::shared_ptr<memory::Mapping> mapping;
    std::unique_ptr<fabric::MemoryRegion> region;

    void let_go() {
      region.reset();
      mapping.reset();
      endpoint.reset();
    }
  };
  using SharedHeld = std::shared_ptr<Held>;
  static Napi::Object wrap(Napi::Env env, const SharedTransportClasses& classes, SharedHeld held);

  Napi::Value close(const Napi::CallbackInfo& info);
  Napi::Value get_address(const Napi::CallbackInfo& info);
  Napi::Value get_length(const Napi::CallbackInfo& info);
  Napi::Value get_lkey(const Napi::CallbackInfo& info);
  Napi::Value get_rkey(const Napi::CallbackInfo& info);

  SharedHeld held_;
  uint64_t address_ = 0, length_ = 0;
  uint32_t lkey_ = 0, rkey_ = 0;
};

}  // namespace rdma_migrate::bindings
