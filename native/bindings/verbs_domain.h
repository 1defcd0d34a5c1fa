// NativeVerbsDomain of lib/native/verbs.ts: a protection domain.
#pragma once

#include <napi.h>

#include <memory>

#include "bindings/verbs_classes.h"

namespace rdma_migrate::bindings {

class VerbsDomainBinding final : public Napi::ObjectWrap<VerbsDomainBinding> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Object create(Napi::Env env, const SharedVerbsClasses& classes,
                             std::shared_ptr<fabric::Provider> provider);

  explicit VerbsDomainBinding(const Napi::CallbackInfo& info);

 private:
  Napi::Value register_memory(const Napi::CallbackInfo& info);
  Napi::Value register_as(const Napi::CallbackInfo& info);
  Napi::Value create_queue_pair(const Napi::CallbackInfo& info);
  Napi::Value bind(const Napi::CallbackInfo& info);
  Napi::Value revoke_remote_access(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);
  Napi::Value get_pins_memory(const Napi::CallbackInfo& info);
  const std::shared_ptr<OpenDomain>& open(Napi::Env env) const;

  SharedVerbsClasses classes_;
  std::shared_ptr<OpenDomain> domain_;  // null: closed
};

}  // namespace rdma_migrate::bindings
