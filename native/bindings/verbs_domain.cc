#include "bindings/verbs_domain.h"

#include <optional>
#include <utility>

#include "bindings/arguments.h"
#include "bindings/async.h"
#include "bindings/listener_binding.h"
#include "bindings/verbs_queue_pair.h"
#include "bindings/verbs_region.h"

namespace rdma_migrate::bindings {
namespace {

// Arguments of the constructor, which Node-API can only call with JavaScript values.
struct Creation {
  const SharedVerbsClasses* classes;
  std::shared_ptr<OpenDomain> domain;
};

constexpr unsigned kAllAccess = fabric::kAccessLocalWrite | fabric::kRemoteAccess;

Napi::Uint8Array memory_argument(const Napi::CallbackInfo& info) {
  if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
    throw bad_argument(info.Env(), "memory", "a Uint8Array");
  const auto memory = info[0].As<Napi::Uint8Array>();
  if (memory.ByteLength() == 0) throw bad_argument(info.Env(), "memory", "at least one byte, not detached");
  return memory;
}

}  // namespace

Napi::Function VerbsDomainBinding::define(Napi::Env env) {
  return DefineClass(env, "NativeVerbsDomain",
                     {
                         InstanceMethod<&VerbsDomainBinding::register_memory>("registerMemory"),
                         InstanceMethod<&VerbsDomainBinding::register_as>("registerAs"),
                         InstanceMethod<&VerbsDomainBinding::create_queue_pair>("createQueuePair"),
                         InstanceMethod<&VerbsDomainBinding::bind>("bind"),
                         InstanceMethod<&VerbsDomainBinding::revoke_remote_access>("revokeRemoteAccess"),
                         InstanceMethod<&VerbsDomainBinding::close>("close"),
                         InstanceAccessor<&VerbsDomainBinding::get_pins_memory>("pinsMemory"),
                     });
}

Napi::Object VerbsDomainBinding::create(Napi::Env env, const SharedVerbsClasses& classes,
                                        std::shared_ptr<fabric::Provider> provider) {
  return guarded(env, [&] {
    auto domain = provider->open_domain();
    Creation creation{&classes,
                      std::make_shared<OpenDomain>(OpenDomain{std::move(provider), std::move(domain)})};
    return classes->domain.New({Napi::External<Creation>::New(env, &creation)});
  });
}

VerbsDomainBinding::VerbsDomainBinding(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<VerbsDomainBinding>(info) {
  if (info.Length() != 1 || !info[0].IsExternal())
    throw Napi::TypeError::New(info.Env(), "NativeVerbsDomain cannot be constructed: use openDomain()");
  auto* creation = info[0].As<Napi::External<Creation>>().Data();
  classes_ = *creation->classes;
  domain_ = std::move(creation->domain);
}

const std::shared_ptr<OpenDomain>& VerbsDomainBinding::open(Napi::Env env) const {
  if (!domain_) throw to_js_error(env, Error("CLOSED", "the domain has been closed"));
  return domain_;
}

Napi::Value VerbsDomainBinding::register_memory(const Napi::CallbackInfo& info) {
  const auto memory = memory_argument(info);
  const uint32_t access = u32_argument(info, 1, "access");
  if ((access & ~kAllAccess) != 0) throw bad_argument(info.Env(), "access", "a set of access flags");
  return VerbsRegionBinding::create(info.Env(), classes_, open(info.Env()), memory,
                                    [access](fabric::Domain& domain, uint64_t address, uint64_t length) {
                                      return domain.register_memory(address, length, access);
                                    });
}

Napi::Value VerbsDomainBinding::register_as(const Napi::CallbackInfo& info) {
  const auto memory = memory_argument(info);
  const auto from = object_argument(info, 1, "was");
  const fabric::MovedRegion was{u32_property(from, "key"), u64_property(from, "wireBase"),
                                memory.ByteLength(), u32_property(from, "access") & kAllAccess};
  return VerbsRegionBinding::create(
      info.Env(), classes_, open(info.Env()), memory,
      [was](fabric::Domain& domain, uint64_t address, uint64_t) { return domain.register_as(was, address); });
}

Napi::Value VerbsDomainBinding::create_queue_pair(const Napi::CallbackInfo& info) {
  const auto options = object_argument(info, 0, "options");
  if (!info[1].IsFunction()) throw bad_argument(info.Env(), "onWake", "a function");
  return VerbsQueuePairBinding::create(info.Env(), classes_, open(info.Env()), options,
                                       info[1].As<Napi::Function>());
}

// On a thread of the pool: a NIC pins what waits for it. Meanwhile the request is the job's, so that nobody
// can answer it; afterwards it can be answered, whatever came of it.
Napi::Value VerbsDomainBinding::bind(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const auto domain = open(info.Env());
    const auto request =
        std::make_shared<std::unique_ptr<fabric::ConnectionRequest>>(RequestBinding::take_from_js(info[0]));
    const auto object = std::make_shared<Napi::ObjectReference>(Napi::Persistent(info[0].As<Napi::Object>()));
    const Napi::Promise promise = run_async(
        info.Env(), WorkLane::kRegister,
        [domain, request]() -> std::optional<Error> {
          try {
            domain->domain->bind(**request);
            return std::nullopt;
          } catch (const Error& error) {
            return error;
          }
        },
        [request, object](Napi::Env env, const std::optional<Error>& failure) -> Napi::Value {
          RequestBinding::give_back(object->Value(), std::move(*request));
          if (failure) throw to_js_error(env, *failure);
          return env.Undefined();
        });
    // Without a thread there is no job.
    if (request.use_count() == 1) RequestBinding::give_back(object->Value(), std::move(*request));
    return promise;
  });
}

// On a thread of the pool: a NIC unpins what it deregisters.
Napi::Value VerbsDomainBinding::revoke_remote_access(const Napi::CallbackInfo& info) {
  const auto domain = open(info.Env());
  return run_async(info.Env(), WorkLane::kClose, [domain] { domain->domain->revoke_remote_access(); });
}

void VerbsDomainBinding::close(const Napi::CallbackInfo&) { domain_.reset(); }

Napi::Value VerbsDomainBinding::get_pins_memory(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), open(info.Env())->domain->pins_memory());
}

}  // namespace rdma_migrate::bindings
