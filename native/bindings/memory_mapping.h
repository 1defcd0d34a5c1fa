// NativeMapping of lib/native/memory.ts.
#pragma once

#include <napi.h>

#include <atomic>
#include <memory>

#include "bindings/memory_lease.h"
#include "memory/mapping.h"

namespace rdma_migrate::bindings {

// A mapping that is garbage collected without close() is unmapped then.
class MappingBinding final : public Napi::ObjectWrap<MappingBinding> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Object create(const Napi::Function& mapping_class, std::shared_ptr<memory::Mapping> mapping);

  // The class can be reached from an object; what `new` of it gives has no mapping and is refused everywhere.
  explicit MappingBinding(const Napi::CallbackInfo& info);

 private:
  friend std::shared_ptr<MappingOwner> mapping_owner_from_js(Napi::Value value);

  Napi::Value populate(const Napi::CallbackInfo& info);
  Napi::Value zero(const Napi::CallbackInfo& info);
  Napi::Value classify(const Napi::CallbackInfo& info);
  Napi::Value digest(const Napi::CallbackInfo& info);
  Napi::Value digest_chunks(const Napi::CallbackInfo& info);
  Napi::Value sync(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);
  Napi::Value get_digested(const Napi::CallbackInfo& info);
  Napi::Value get_kind(const Napi::CallbackInfo& info);
  Napi::Value get_address(const Napi::CallbackInfo& info);
  Napi::Value get_length(const Napi::CallbackInfo& info);
  Napi::Value get_page_size(const Napi::CallbackInfo& info);
  Napi::Value get_fills_through_file(const Napi::CallbackInfo& info);

  const std::shared_ptr<MappingOwner>& owner() const;

  std::shared_ptr<MappingOwner> owner_;
  // How far the digest that was begun last has come, bytes.
  std::shared_ptr<std::atomic<uint64_t>> digested_;
  // What the mapping was, also after it has been closed.
  const char* kind_ = "";
  uint64_t address_ = 0;
  uint64_t length_ = 0;
  uint64_t page_size_ = 0;
  bool fills_through_file_ = false;
};

// The owner behind a NativeMapping. Throws a JavaScript Error: INVALID_ARGUMENT.
std::shared_ptr<MappingOwner> mapping_owner_from_js(Napi::Value value);

}  // namespace rdma_migrate::bindings
