// Secrets from JavaScript. The copies that are made here are wiped when they go; the arrays are their owner's
// to wipe.
#pragma once

#include <napi.h>

#include <optional>

#include "bindings/arguments.h"
#include "fabric/protection.h"

namespace rdma_migrate::bindings {

inline crypto::Secret secret_argument(const Napi::Value& value, const char* name) {
  constexpr size_t kSize = sizeof(crypto::Secret);
  static_assert(kSize == 48);
  if (value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_uint8_array) {
    const auto array = value.As<Napi::Uint8Array>();
    if (array.ByteLength() == kSize)
      return crypto::Secret(std::span<const uint8_t, kSize>(array.Data(), kSize));
  }
  throw bad_argument(value.Env(), name, "a Uint8Array of 48 bytes");
}

// An object with both secrets; undefined: none.
inline std::optional<fabric::Protection> protection_argument(const Napi::CallbackInfo& info, size_t index) {
  if (info[index].IsUndefined()) return std::nullopt;
  const auto secrets = object_argument(info, index, "secrets");
  return fabric::Protection{.send = secret_argument(secrets.Get("send"), "secrets.send"),
                            .receive = secret_argument(secrets.Get("receive"), "secrets.receive")};
}

}  // namespace rdma_migrate::bindings
