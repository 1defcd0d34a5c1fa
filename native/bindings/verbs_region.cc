#include "bindings/verbs_region.h"

#include <utility>

#include "bindings/async.h"

namespace rdma_migrate::bindings {

Napi::Function VerbsRegionBinding::define(Napi::Env env) {
  return DefineClass(env, "NativeVerbsRegion",
                     {
                         InstanceMethod<&VerbsRegionBinding::close>("close"),
                         InstanceAccessor<&VerbsRegionBinding::get_addr>("addr"),
                         InstanceAccessor<&VerbsRegionBinding::get_lkey>("lkey"),
                         InstanceAccessor<&VerbsRegionBinding::get_rkey>("rkey"),
                     });
}

Napi::Value VerbsRegionBinding::create(Napi::Env env, SharedVerbsClasses classes,
                                       std::shared_ptr<OpenDomain> domain, Napi::Uint8Array memory,
                                       Register with) {
  // Asking for the bytes moves those of a small array out of V8's heap, where they would wander.
  const auto address = reinterpret_cast<uint64_t>(memory.Data());
  const uint64_t length = memory.ByteLength();
  auto held = std::make_shared<Held>(Held{std::move(domain), Napi::Persistent(memory), nullptr});
  const auto work = [held, address, length, with = std::move(with)] {
    held->region = with(*held->domain->domain, address, length);
  };
  const auto convert = [held, classes](Napi::Env js) -> Napi::Value {
    std::shared_ptr<Held> handed = held;
    return classes->region.New({Napi::External<std::shared_ptr<Held>>::New(js, &handed)});
  };
  if (held->domain->domain->pins_memory()) return run_async(env, WorkLane::kRegister, work, convert);
  return guarded(env, [&] {
    work();
    return convert(env);
  });
}

VerbsRegionBinding::VerbsRegionBinding(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<VerbsRegionBinding>(info) {
  if (info.Length() != 1 || !info[0].IsExternal()) {
    throw Napi::TypeError::New(info.Env(), "NativeVerbsRegion cannot be constructed: use registerMemory()");
  }
  held_ = *info[0].As<Napi::External<std::shared_ptr<Held>>>().Data();
  addr_ = held_->region->address();
  lkey_ = held_->region->lkey();
  rkey_ = held_->region->rkey();
}

// On a worker thread: it waits for who is reading or writing there, and a NIC unpins. The bytes are let go on
// the JavaScript thread, when the job is destroyed.
Napi::Value VerbsRegionBinding::close(const Napi::CallbackInfo& info) {
  auto held = std::move(held_);
  return run_anyway(
      info.Env(), WorkLane::kClose,
      [held] {
        if (held) held->region.reset();
      },
      [](Napi::Env env) -> Napi::Value { return env.Undefined(); });
}

Napi::Value VerbsRegionBinding::get_addr(const Napi::CallbackInfo& info) {
  return Napi::BigInt::New(info.Env(), addr_);
}
Napi::Value VerbsRegionBinding::get_lkey(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), lkey_);
}
Napi::Value VerbsRegionBinding::get_rkey(const Napi::CallbackInfo& info) {
  // A device gives it when it is known: with the first connection of the domain, or bind().
  if (held_) rkey_ = held_->region->rkey();
  return Napi::Number::New(info.Env(), rkey_);
}

}  // namespace rdma_migrate::bindings
