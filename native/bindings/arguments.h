// Checked arguments of exported functions. The TypeScript layer validates what users pass; these guard the
// boundary itself.
#pragma once

#include <napi.h>

#include <cstdint>
#include <span>
#include <string>

namespace rdma_migrate::bindings {

inline Napi::TypeError bad_argument(Napi::Env env, const std::string& name, const char* expected) {
  Napi::TypeError error = Napi::TypeError::New(env, "expected " + std::string(expected) + " for " + name);
  error.Set("code", "INVALID_ARGUMENT");
  return error;
}

inline uint64_t to_u64(const Napi::Value& value, const std::string& name) {
  bool lossless = false;
  if (value.IsBigInt()) {
    const uint64_t number = value.As<Napi::BigInt>().Uint64Value(&lossless);
    if (lossless) return number;
  }
  throw bad_argument(value.Env(), name, "a bigint from 0 to 2^64-1");
}

inline uint32_t to_u32(const Napi::Value& value, const std::string& name) {
  if (value.IsNumber()) {
    const double number = value.As<Napi::Number>().DoubleValue();
    if (number >= 0 && number <= 4294967295.0 && number == static_cast<uint32_t>(number)) {
      return static_cast<uint32_t>(number);
    }
  }
  throw bad_argument(value.Env(), name, "an integer from 0 to 2^32-1");
}

// Page numbers are JavaScript numbers: exact up to 2^53, far above Bitmap::kMaxPages.
inline uint64_t page_number(const Napi::Value& value, const char* name) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  if (number >= 0 && number <= 9007199254740991.0 &&
      number == static_cast<double>(static_cast<uint64_t>(number))) {
    return static_cast<uint64_t>(number);
  }
  throw bad_argument(value.Env(), name, "an integer from 0 to 2^53-1");
}

inline std::string to_text(const Napi::Value& value, const std::string& name) {
  if (!value.IsString()) throw bad_argument(value.Env(), name, "a string");
  return value.As<Napi::String>().Utf8Value();
}

inline uint64_t u64_argument(const Napi::CallbackInfo& info, size_t index, const char* name) {
  return to_u64(info[index], name);
}
inline uint32_t u32_argument(const Napi::CallbackInfo& info, size_t index, const char* name) {
  return to_u32(info[index], name);
}
inline uint64_t u64_property(const Napi::Object& object, const char* name) {
  return to_u64(object.Get(name), name);
}
inline uint32_t u32_property(const Napi::Object& object, const char* name) {
  return to_u32(object.Get(name), name);
}
inline std::string text_property(const Napi::Object& object, const char* name) {
  return to_text(object.Get(name), name);
}

inline Napi::Object object_argument(const Napi::CallbackInfo& info, size_t index, const char* name) {
  if (!info[index].IsObject()) throw bad_argument(info.Env(), name, "an object");
  return info[index].As<Napi::Object>();
}

// Valid during the call only.
inline std::span<const uint8_t> bytes_argument(const Napi::CallbackInfo& info, size_t index,
                                               const char* name) {
  if (!info[index].IsTypedArray() ||
      info[index].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    throw bad_argument(info.Env(), name, "a Uint8Array");
  }
  const auto array = info[index].As<Napi::Uint8Array>();
  return {array.Data(), array.ByteLength()};
}

// Valid during the call only. `expected` says it in words.
template <typename Value>
std::span<const Value> array_of(const Napi::Value& value, napi_typedarray_type type, const char* name,
                                const char* expected) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != type)
    throw bad_argument(value.Env(), name, expected);
  const auto array = value.As<Napi::TypedArrayOf<Value>>();
  return {array.Data(), array.ElementLength()};
}
inline std::span<const uint32_t> u32_array(const Napi::Value& value, const char* name) {
  return array_of<uint32_t>(value, napi_uint32_array, name, "a Uint32Array");
}
inline std::span<const uint64_t> u64_array(const Napi::Value& value, const char* name) {
  return array_of<uint64_t>(value, napi_biguint64_array, name, "a BigUint64Array");
}

}  // namespace rdma_migrate::bindings
