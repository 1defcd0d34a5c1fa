#include "bindings/memory_mapping.h"

#include <cstring>
#include <string>
#include <vector>

#include "bindings/arguments.h"
#include "bindings/memory_bindings.h"
#include "memory/classify.h"
#include "memory/digest.h"
#include "memory/populate.h"
#include "memory/zero_range.h"

namespace rdma_migrate::bindings {
namespace {

using memory::CancelFlag;
using memory::Mapping;

constexpr napi_type_tag kMappingTag = {0x3d9e0b5c7f2a4168, 0xc47d1e9f80b3a652};

const char* name_of(Mapping::Kind kind) {
  switch (kind) {
    case Mapping::Kind::kMemfd:
      return "memfd";
    case Mapping::Kind::kFile:
      return "file";
    case Mapping::Kind::kCaller:
      return "caller";
  }
  return "";
}

Napi::Value to_js(Napi::Env env, const std::vector<memory::Range>& runs) {
  auto array = Napi::BigUint64Array::New(env, runs.size() * 2);
  if (!runs.empty()) std::memcpy(array.Data(), runs.data(), runs.size() * sizeof(memory::Range));
  return array;
}

Napi::Value to_js(Napi::Env env, const memory::Classification& found) {
  auto value = Napi::Object::New(env);
  value.Set("end", Napi::BigInt::New(env, found.end));
  value.Set("dataPages", Napi::BigInt::New(env, found.data_pages));
  value.Set("zeroPages", Napi::BigInt::New(env, found.zero_pages));
  value.Set("zeroRuns", to_js(env, found.zero_runs));
  value.Set("dataRuns", to_js(env, found.data_runs));
  return value;
}

Napi::Value undefined(Napi::Env env) { return env.Undefined(); }

}  // namespace

Napi::Function MappingBinding::define(Napi::Env env) {
  return DefineClass(env, "NativeMapping",
                     {
                         InstanceMethod<&MappingBinding::populate>("populate"),
                         InstanceMethod<&MappingBinding::zero>("zero"),
                         InstanceMethod<&MappingBinding::classify>("classify"),
                         InstanceMethod<&MappingBinding::digest>("digest"),
                         InstanceMethod<&MappingBinding::digest_chunks>("digestChunks"),
                         InstanceMethod<&MappingBinding::sync>("sync"),
                         InstanceMethod<&MappingBinding::close>("close"),
                         InstanceAccessor<&MappingBinding::get_digested>("digested"),
                         InstanceAccessor<&MappingBinding::get_kind>("kind"),
                         InstanceAccessor<&MappingBinding::get_address>("address"),
                         InstanceAccessor<&MappingBinding::get_length>("length"),
                         InstanceAccessor<&MappingBinding::get_page_size>("pageSize"),
                         InstanceAccessor<&MappingBinding::get_fills_through_file>("fillsThroughFile"),
                     });
}

Napi::Object MappingBinding::create(const Napi::Function& mapping_class, std::shared_ptr<Mapping> mapping) {
  const Napi::Object object = mapping_class.New({});
  MappingBinding& self = *Unwrap(object);
  self.kind_ = name_of(mapping->kind());
  self.address_ = mapping->address();
  self.length_ = mapping->length();
  self.page_size_ = mapping->page_size();
  self.fills_through_file_ = mapping->knows_fresh_pages();
  self.owner_ = std::make_shared<MappingOwner>(object.Env(), std::move(mapping));
  return object;
}

MappingBinding::MappingBinding(const Napi::CallbackInfo& info) : Napi::ObjectWrap<MappingBinding>(info) {
  info.This().As<Napi::Object>().TypeTag(&kMappingTag);
}

const std::shared_ptr<MappingOwner>& MappingBinding::owner() const {
  if (!owner_)
    throw Error("INVALID_ARGUMENT",
                "NativeMapping cannot be constructed: use mapMemfd, mapFile or mapCaller");
  return owner_;
}

Napi::Value MappingBinding::populate(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const uint64_t offset = u64_argument(info, 0, "offset");
    const uint64_t length = u64_argument(info, 1, "length");
    if (!info[2].IsUndefined() && !info[2].IsBoolean())
      throw bad_argument(info.Env(), "keepFree", "a boolean");
    const bool keep = info[2].IsBoolean() && info[2].As<Napi::Boolean>().Value();
    const auto free_space = keep ? memory::FreeSpace::kKeep : memory::FreeSpace::kUse;
    return run_on_mapping(
        info.Env(), WorkLane::kBulk, owner(),
        [=](const Mapping& mapping, const CancelFlag* cancel) {
          memory::populate(mapping, offset, length, cancel, free_space);
        },
        undefined);
  });
}

Napi::Value MappingBinding::zero(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const uint64_t offset = u64_argument(info, 0, "offset");
    const uint64_t length = u64_argument(info, 1, "length");
    if (!info[2].IsBoolean()) throw bad_argument(info.Env(), "mayPunch", "a boolean");
    const bool may_punch = info[2].As<Napi::Boolean>().Value();
    return run_on_mapping(
        info.Env(), WorkLane::kBulk, owner(),
        [=](const Mapping& mapping, const CancelFlag* cancel) {
          memory::zero_range(mapping, offset, length, may_punch, cancel);
        },
        undefined);
  });
}

Napi::Value MappingBinding::classify(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const auto bitmap = bitmap_from_js(info[0]);
    const Napi::Object object = object_argument(info, 1, "window");
    const memory::ClassifyWindow window = {
        u64_property(object, "offset"), u64_property(object, "length"), u64_property(object, "minZeroRun"),
        u64_property(object, "mergeGap"), u64_property(object, "mostRead")};
    const auto zeros = info[2].IsUndefined() ? nullptr : bitmap_from_js(info[2]);
    return run_on_mapping(
        info.Env(), WorkLane::kBulk, owner(),
        [=](const Mapping& mapping, const CancelFlag* cancel) {
          return memory::classify(mapping, *bitmap, window, cancel, zeros.get());
        },
        [](Napi::Env env, const memory::Classification& found) { return to_js(env, found); });
  });
}

Napi::Value MappingBinding::digest(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const auto done = std::make_shared<std::atomic<uint64_t>>(0);
    digested_ = done;
    return run_on_mapping(
        info.Env(), WorkLane::kBulk, owner(),
        [done](const Mapping& mapping, const CancelFlag* cancel) {
          return memory::to_hex(memory::digest(mapping, cancel, done.get()));
        },
        [](Napi::Env env, const std::string& hex) -> Napi::Value { return Napi::String::New(env, hex); });
  });
}

Napi::Value MappingBinding::digest_chunks(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const memory::Range range{u64_argument(info, 0, "offset"), u64_argument(info, 1, "length")};
    const uint64_t chunk = u64_argument(info, 2, "chunkBytes");
    constexpr uint64_t kUnit = memory::kTargetPageSize;
    if (chunk == 0 || chunk % kUnit != 0 || range.offset % kUnit != 0 || range.offset > length_ ||
        range.length > length_ - range.offset)
      throw Error("INVALID_ARGUMENT", "digestChunks: a range that leaves the mapping, or no whole pages");
    return run_on_mapping(
        info.Env(), WorkLane::kBulk, owner(),
        [=](const Mapping& mapping, const CancelFlag* cancel) {
          return memory::digest_chunks(mapping, range, chunk, cancel);
        },
        [](Napi::Env env, const std::vector<memory::Digest>& digests) -> Napi::Value {
          constexpr size_t kSize = sizeof(memory::Digest);
          auto bytes = Napi::Buffer<uint8_t>::New(env, digests.size() * kSize);
          for (size_t at = 0; at < digests.size(); ++at)
            std::memcpy(bytes.Data() + at * kSize, digests[at].data(), kSize);
          return bytes;
        });
  });
}

Napi::Value MappingBinding::sync(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    return run_on_mapping(
        info.Env(), WorkLane::kBulk, owner(),
        [](const Mapping& mapping, const CancelFlag*) { mapping.sync(); }, undefined);
  });
}

Napi::Value MappingBinding::close(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] { return owner()->close(); });
}

Napi::Value MappingBinding::get_digested(const Napi::CallbackInfo& info) {
  return Napi::BigInt::New(info.Env(), digested_ ? digested_->load(std::memory_order_relaxed) : uint64_t{0});
}
Napi::Value MappingBinding::get_kind(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), kind_);
}
Napi::Value MappingBinding::get_address(const Napi::CallbackInfo& info) {
  return Napi::BigInt::New(info.Env(), address_);
}
Napi::Value MappingBinding::get_length(const Napi::CallbackInfo& info) {
  return Napi::BigInt::New(info.Env(), length_);
}
Napi::Value MappingBinding::get_fills_through_file(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), fills_through_file_);
}
Napi::Value MappingBinding::get_page_size(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(page_size_));
}

std::shared_ptr<MappingOwner> mapping_owner_from_js(Napi::Value value) {
  if (value.IsObject() && value.As<Napi::Object>().CheckTypeTag(&kMappingTag)) {
    auto owner = MappingBinding::Unwrap(value.As<Napi::Object>())->owner_;
    if (owner) return owner;
  }
  throw to_js_error(value.Env(),
                    Error("INVALID_ARGUMENT", "expected a mapping of mapMemfd, mapFile or mapCaller"));
}

std::shared_ptr<memory::Mapping> mapping_from_js(Napi::Value value) {
  return guarded(value.Env(), [&] { return mapping_owner_from_js(value)->mapping(); });
}

}  // namespace rdma_migrate::bindings
