#include "bindings/region_binding.h"

#include <cerrno>

#include "bindings/async.h"

namespace rdma_migrate::bindings {

Napi::Function RegionBinding::define(Napi::Env env) {
  return DefineClass(env, "NativeMemoryRegion",
                     {
                         InstanceMethod<&RegionBinding::close>("close"),
                         InstanceAccessor<&RegionBinding::get_address>("address"),
                         InstanceAccessor<&RegionBinding::get_length>("length"),
                         InstanceAccessor<&RegionBinding::get_lkey>("lkey"),
                         InstanceAccessor<&RegionBinding::get_rkey>("rkey"),
                     });
}

namespace {

std::unique_ptr<fabric::MemoryRegion> register_range(engine::Endpoint& endpoint, memory::Mapping& mapping,
                                                     uint64_t offset, uint64_t length, uint32_t access) {
  const auto attempt = [&] {
    return endpoint.connection().register_memory(mapping.address() + offset, length, access);
  };
  try {
    return attempt();
  } catch (const Error& error) {
    if (error.sys_errno() != EFAULT || !mapping.make_pinnable()) throw;
  }
  return attempt();
}

}  // namespace

Napi::Value RegionBinding::register_async(Napi::Env env, SharedTransportClasses classes,
                                          std::shared_ptr<engine::Endpoint> endpoint,
                                          std::shared_ptr<memory::Mapping> mapping, uint64_t offset,
                                          uint64_t length, uint32_t access) {
  auto held = std::make_shared<Held>(Held{std::move(endpoint), std::move(mapping), nullptr});
  return run_async(
      env,
      [held, offset, length, access] {
        held->region = register_range(*held->endpoint, *held->mapping, offset, length, access);
      },
      [held, classes](Napi::Env js) -> Napi::Value {
        std::shared_ptr<Held> handed = held;
        return classes->region.New({Napi::External<std::shared_ptr<Held>>::New(js, &handed)});
      });
}

RegionBinding::RegionBinding(const Napi::CallbackInfo& info) : Napi::ObjectWrap<RegionBinding>(info) {
  if (info.Length() != 1 || !info[0].IsExternal()) {
    throw Napi::TypeError::New(info.Env(), "NativeMemoryRegion cannot be constructed: use registerMemory()");
  }
  held_ = *info[0].As<Napi::External<std::shared_ptr<Held>>>().Data();
  address_ = held_->region->address();
  length_ = held_->region->length();
  lkey_ = held_->region->lkey();
  rkey_ = held_->region->rkey();
}

Napi::Value RegionBinding::close(const Napi::CallbackInfo& info) {
  auto held = std::move(held_);
  return run_async(
      info.Env(),
      [held] {
        if (!held) return;
        held->region.reset();
        held->mapping.reset();
      },
      [](Napi::Env env) -> Napi::Value { return env.Undefined(); });
}

Napi::Value RegionBinding::get_address(const Napi::CallbackInfo& info) {
  return Napi::BigInt::New(info.Env(), address_);
}
Napi::Value RegionBinding::get_length(const Napi::CallbackInfo& info) {
  return Napi::BigInt::New(info.Env(), length_);
}
Napi::Value RegionBinding::get_lkey(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), lkey_);
}
Napi::Value RegionBinding::get_rkey(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), rkey_);
}

}  // namespace rdma_migrate::bindings
