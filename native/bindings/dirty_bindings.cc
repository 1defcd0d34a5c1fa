#include "bindings/dirty_bindings.h"

#include <string>
#include <utility>

#include "bindings/arguments.h"
#include "bindings/async.h"
#include "bindings/dirty_digests.h"
#include "bindings/dirty_tracker.h"
#include "bindings/memory_bindings.h"
#include "dirty/hash.h"
#include "dirty/write_protect.h"

namespace rdma_migrate::bindings {
namespace {

// Defined once in each environment: V8 keeps every definition for the environment's life.
struct Classes {
  Napi::FunctionReference tracker;
  Napi::FunctionReference digests;
};
using SharedClasses = std::shared_ptr<Classes>;

dirty::Blocks blocks_argument(const Napi::CallbackInfo& info) {
  if (!info[0].IsArray()) throw bad_argument(info.Env(), "mappings", "an array of mappings");
  const auto list = info[0].As<Napi::Array>();
  dirty::Blocks blocks;
  for (uint32_t i = 0; i < list.Length(); ++i) blocks.push_back(mapping_from_js(list.Get(i)));
  return blocks;
}

dirty::ProtectMode protect_mode(const Napi::Object& options) {
  const std::string mode = text_property(options, "mode");
  if (mode == "best") return dirty::ProtectMode::kBest;
  if (mode == "async") return dirty::ProtectMode::kAsynchronous;
  if (mode == "fault-thread") return dirty::ProtectMode::kFaultThread;
  throw Error("INVALID_ARGUMENT", "expected best, async or fault-thread for mode but received " + mode);
}

Napi::Value create_write_protect(const Napi::CallbackInfo& info, const SharedClasses& classes) {
  const auto mode = protect_mode(object_argument(info, 1, "options"));
  return TrackerBinding::create(classes->tracker.Value(),
                                dirty::track_by_write_protection(blocks_argument(info), mode),
                                Napi::Array::New(info.Env(), 0));
}

Napi::Value create_hash(const Napi::CallbackInfo& info, const SharedClasses& classes) {
  const Napi::Object options = object_argument(info, 1, "options");
  auto tracker =
      std::make_shared<dirty::HashTracker>(blocks_argument(info), u32_property(options, "threads"));
  auto sent = Napi::Array::New(info.Env(), tracker->sent().size());
  for (uint32_t i = 0; i < tracker->sent().size(); ++i) {
    sent.Set(i, DigestsBinding::create(classes->digests.Value(), tracker->sent()[i]));
  }
  return TrackerBinding::create(classes->tracker.Value(), std::move(tracker), sent);
}

struct Support {
  dirty::WriteProtectSupport write_protect;
};

Napi::Value probe(const Napi::CallbackInfo& info, const SharedClasses&) {
  return run_async(
      info.Env(), [] { return Support{dirty::write_protect_support()}; },
      [](Napi::Env env, const Support& support) -> Napi::Value {
        auto value = Napi::Object::New(env);
        value.Set("writeProtectAsync", support.write_protect.asynchronous);
        value.Set("writeProtectFaultThread", support.write_protect.fault_thread);
        value.Set("writeProtectFaultThreadShared", support.write_protect.fault_thread_shared);
        return value;
      });
}

}  // namespace

void init_dirty(Napi::Env env, Napi::Object exports) {
  const auto classes = std::make_shared<Classes>();
  classes->tracker = Napi::Persistent(TrackerBinding::define(env));
  classes->digests = Napi::Persistent(DigestsBinding::define(env));
  const auto set = [&](const char* name, auto body) {
    exports.Set(name, Napi::Function::New(
                          env,
                          [classes, body](const Napi::CallbackInfo& info) -> Napi::Value {
                            return guarded(info.Env(), [&] { return body(info, classes); });
                          },
                          name));
  };
  set("createWriteProtectTracker", create_write_protect);
  set("createHashTracker", create_hash);
  set("probeTrackers", probe);
}

}  // namespace rdma_migrate::bindings
