#include "bindings/memory_coverage.h"

#include <algorithm>

#include "bindings/arguments.h"
#include "bindings/async.h"

namespace rdma_migrate::bindings {
namespace {

constexpr napi_type_tag kCoverageTag = {0x3d0b7c5e92a84f16, 0xc47e1a6f08b35d92};

}  // namespace

Napi::Function CoverageBinding::define(Napi::Env env) {
  return DefineClass(env, "NativeCoverage",
                     {
                         InstanceMethod<&CoverageBinding::add>("add"),
                         InstanceMethod<&CoverageBinding::shares>("shares"),
                         InstanceMethod<&CoverageBinding::missing>("missing"),
                     });
}

Napi::Object CoverageBinding::create(const Napi::Function& coverage_class, const Napi::Value& lengths,
                                     const Napi::Value& page_size) {
  if (!lengths.IsArray()) throw bad_argument(lengths.Env(), "lengths", "an array of lengths in bytes");
  const auto list = lengths.As<Napi::Array>();
  std::vector<uint64_t> bytes;
  for (uint32_t i = 0; i < list.Length(); ++i) bytes.push_back(to_u64(list.Get(i), "lengths"));
  auto coverage = std::make_shared<memory::Coverage>(bytes, to_u32(page_size, "pageSize"));
  const Napi::Object object = coverage_class.New({});
  Unwrap(object)->coverage_ = std::move(coverage);
  return object;
}

CoverageBinding::CoverageBinding(const Napi::CallbackInfo& info) : Napi::ObjectWrap<CoverageBinding>(info) {
  info.This().As<Napi::Object>().TypeTag(&kCoverageTag);
}

memory::Coverage& CoverageBinding::coverage(const Napi::CallbackInfo& info) const {
  if (!coverage_)
    throw Napi::TypeError::New(info.Env(), "NativeCoverage cannot be constructed: use createCoverage()");
  return *coverage_;
}

void CoverageBinding::add(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] {
    coverage(info).add(u32_argument(info, 0, "block"), u64_argument(info, 1, "offset"),
                       u64_argument(info, 2, "length"));
  });
}

Napi::Value CoverageBinding::shares(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const uint32_t block = u32_argument(info, 0, "block");
    return shares_to_js(info.Env(), coverage(info).shares(block, page_number(info[1], "pagesPerCell")));
  });
}

Napi::Value CoverageBinding::missing(const Napi::CallbackInfo& info) {
  return missing_to_js(info.Env(), coverage(info).missing());
}

std::shared_ptr<memory::Coverage> coverage_from_js(Napi::Value value) {
  if (value.IsObject() && value.As<Napi::Object>().CheckTypeTag(&kCoverageTag)) {
    auto coverage = CoverageBinding::Unwrap(value.As<Napi::Object>())->coverage_;
    if (coverage) return coverage;
  }
  throw to_js_error(value.Env(),
                    Error("INVALID_ARGUMENT", "expected a coverage of createCoverage() for coverage"));
}

Napi::Value shares_to_js(Napi::Env env, const std::vector<uint8_t>& shares) {
  auto array = Napi::Uint8Array::New(env, shares.size());
  std::copy(shares.begin(), shares.end(), array.Data());
  return array;
}

Napi::Value missing_to_js(Napi::Env env, const std::vector<memory::Coverage::Missing>& missing) {
  auto list = Napi::Array::New(env, missing.size());
  for (size_t i = 0; i < missing.size(); ++i) {
    auto entry = Napi::Object::New(env);
    entry.Set("block", Napi::Number::New(env, static_cast<double>(missing[i].block)));
    entry.Set("pages", Napi::BigInt::New(env, missing[i].pages));
    entry.Set("first", Napi::BigInt::New(env, missing[i].first));
    list.Set(static_cast<uint32_t>(i), entry);
  }
  return list;
}

}  // namespace rdma_migrate::bindings
