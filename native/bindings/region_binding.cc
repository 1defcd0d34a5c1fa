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
    return endpoint.domain().register_memory(mapping.address() + offset, length, access);
  };
  try {
    return attempt();
  } catch (const Error& error) {
    if (error.sys_errno() != EFAULT || !mapping.make_pinnable()) throw;
  }
  return attempt();
}

}  // namespace

Napi::Object RegionBinding::wrap(Napi::Env env, const SharedTransportClasses& classes, SharedHeld held) {
  return classes->region.New({Napi::External<SharedHeld>::New(env, &held)});
}

Napi::Value RegionBinding::register_memory(Napi::Env env, const SharedTransportClasses& classes,
                                           std::shared_ptr<engine::Endpoint> endpoint,
                                           std::shared_ptr<memory::Mapping> mapping, uint64_t offset,
                                           uint64_t length, uint32_t access) {
  const bool takes_time = endpoint->domain().pins_memory();
  auto held = std::make_shared<Held>(Held{std::move(endpoint), std::move(mapping), nullptr});
  const auto work = [held, offset, length, access] {
    held->region = register_range(*held->endpoint, *held->mapping, offset, length, access);
  };
  if (!takes_time) {
    guarded(env, work);
    return wrap(env, classes, std::move(held));
  }
  return run_async(env, WorkLane::kRegister, work,
                   [held, classes](Napi::Env js) -> Napi::Value { return wrap(js, classes, held); });
}

RegionBinding::RegionBinding(const Napi::CallbackInfo& info) : Napi::ObjectWrap<RegionBinding>(info) {
  if (info.Length() != 1 || !info[0].IsExternal()) {
    throw Napi::TypeError::New(info.Env(), "NativeMemoryRegion cannot be constructed: use registerMemory()");
  }
  held_ = *info[0].As<Napi::External<SharedHeld>>().Data();
  address_ = held_->region->address();
  length_ = held_->region->length();
  lkey_ = held_->region->lkey();
  rkey_ = held_->region->rkey();
}

// The last one to let go of a mapping or an endpoint unmaps and frees, which takes its time; and a processing
// thread may be waiting for a page of the range.
Napi::Value RegionBinding::close(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto held = std::move(held_);
  const bool left = !held || held->region->withdraw();
  const bool at_once = !held || (left && held->mapping.use_count() > 1 && held->endpoint.use_count() > 1);
  if (at_once) {
    if (held) held->let_go();
    const auto deferred = Napi::Promise::Deferred::New(env);
    deferred.Resolve(env.Undefined());
    return deferred.Promise();
  }
  // A page that a disk keeps back must not hold up the closes of others: many regions may wait for one page.
  const bool waits_for_page = !left && !held->endpoint->domain().pins_memory();
  const WorkLane lane = waits_for_page || held->mapping.use_count() == 1 ? WorkLane::kBulk : WorkLane::kClose;
  return run_anyway(
      env, lane, [held] { held->let_go(); }, [](Napi::Env js) -> Napi::Value { return js.Undefined(); });
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
