#include "bindings/dirty_digests.h"

#include <utility>

#include "bindings/arguments.h"
#include "bindings/async.h"
#include "bindings/dirty_bindings.h"

namespace rdma_migrate::bindings {
namespace {

constexpr napi_type_tag kDigestsTag = {0x51b7d0a94c3e82f6, 0x9e20f4c8715ab3d7};

}  // namespace

Napi::Function DigestsBinding::define(Napi::Env env) {
  return DefineClass(env, "NativePageDigests",
                     {
                         InstanceMethod<&DigestsBinding::set_zero>("setZero"),
                         InstanceAccessor<&DigestsBinding::get_pages>("pages"),
                     });
}

Napi::Object DigestsBinding::create(const Napi::Function& digests_class,
                                    std::shared_ptr<dirty::PageDigests> digests) {
  const Napi::Object object = digests_class.New({});
  Unwrap(object)->digests_ = std::move(digests);
  return object;
}

DigestsBinding::DigestsBinding(const Napi::CallbackInfo& info) : Napi::ObjectWrap<DigestsBinding>(info) {
  info.This().As<Napi::Object>().TypeTag(&kDigestsTag);
}

dirty::PageDigests& DigestsBinding::digests() const {
  if (!digests_)
    throw Error("INVALID_ARGUMENT", "NativePageDigests cannot be constructed: trackers have them");
  return *digests_;
}

void DigestsBinding::set_zero(const Napi::CallbackInfo& info) {
  guarded(info.Env(),
          [&] { digests().set_zero(page_number(info[0], "firstPage"), page_number(info[1], "count")); });
}

Napi::Value DigestsBinding::get_pages(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return Napi::Number::New(info.Env(), static_cast<double>(digests().pages()));
  });
}

std::shared_ptr<dirty::PageDigests> digests_from_js(Napi::Value value) {
  if (value.IsObject() && value.As<Napi::Object>().CheckTypeTag(&kDigestsTag)) {
    auto digests = DigestsBinding::Unwrap(value.As<Napi::Object>())->digests_;
    if (digests) return digests;
  }
  throw to_js_error(value.Env(), Error("INVALID_ARGUMENT", "expected a tracker's `sent` for digests"));
}

}  // namespace rdma_migrate::bindings
