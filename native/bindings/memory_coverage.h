// NativeCoverage of lib/native/memory.ts.
#pragma once

#include <napi.h>

#include <memory>
#include <vector>

#include "memory/coverage.h"

namespace rdma_migrate::bindings {

class CoverageBinding final : public Napi::ObjectWrap<CoverageBinding> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Object create(const Napi::Function& coverage_class, const Napi::Value& lengths,
                             const Napi::Value& page_size);

  // What `new` of the class gives has no coverage and is refused everywhere.
  explicit CoverageBinding(const Napi::CallbackInfo& info);

 private:
  friend std::shared_ptr<memory::Coverage> coverage_from_js(Napi::Value value);

  void add(const Napi::CallbackInfo& info);
  Napi::Value shares(const Napi::CallbackInfo& info);
  Napi::Value missing(const Napi::CallbackInfo& info);

  memory::Coverage& coverage(const Napi::CallbackInfo& info) const;

  std::shared_ptr<memory::Coverage> coverage_;
};

// Throws a JavaScript Error: INVALID_ARGUMENT.
std::shared_ptr<memory::Coverage> coverage_from_js(Napi::Value value);

// A Uint8Array.
Napi::Value shares_to_js(Napi::Env env, const std::vector<uint8_t>& shares);

// An array of { block, pages, first }.
Napi::Value missing_to_js(Napi::Env env, const std::vector<memory::Coverage::Missing>& missing);

}  // namespace rdma_migrate::bindings
