#include "bindings/dirty_bindings.h"

#include <string>
#include <utility>

#include "bindings/arguments.h"
#include "bindings/async.h"
#include "bindings/dirty_digests.h"
#include "bindings/dirty_tracker.h"
#include "bindings/memory_bindings.h"
#include "dirty/bitmap_log.h"
#include "dirty/hash.h"
#include "dirty/soft_dirty.h"
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

dirty::DirtyLog log_from_js(const Napi::Value& value) {
  if (!value.IsObject()) throw bad_argument(value.Env(), "logs", "an array of logs");
  const auto object = value.As<Napi::Object>();
  dirty::DirtyLog log;
  const Napi::Value fd = object.Get("fd");
  if (!fd.IsUndefined()) {
    const uint32_t number = to_u32(fd, "fd");
    if (number > INT32_MAX) throw bad_argument(value.Env(), "fd", "a file descriptor");
    log.fd = static_cast<int>(number);
  } else {
    log.address = u64_property(object, "address");
  }
  log.offset = u64_property(object, "offset");
  log.log_page_size = u32_property(object, "pageSize");
  return log;
}

Napi::Value create_bitmap(const Napi::CallbackInfo& info, const SharedClasses& classes) {
  if (!info[1].IsArray()) throw bad_argument(info.Env(), "logs", "an array of logs");
  const auto list = info[1].As<Napi::Array>();
  std::vector<dirty::DirtyLog> logs;
  for (uint32_t i = 0; i < list.Length(); ++i) logs.push_back(log_from_js(list.Get(i)));
  return TrackerBinding::create(classes->tracker.Value(),
                                std::make_shared<dirty::BitmapTracker>(blocks_argument(info), logs),
                                Napi::Array::New(info.Env(), 0));
}

Napi::Value create_soft_dirty(const Napi::CallbackInfo& info, const SharedClasses& classes) {
  const Napi::Object object = object_argument(info, 1, "options");
  dirty::SoftDirtyOptions options;
  const uint32_t pid = u32_property(object, "pid");
  if (pid > INT32_MAX) throw bad_argument(info.Env(), "pid", "a process number");
  options.pid = static_cast<pid_t>(pid);
  const Napi::Value addresses = object.Get("addresses");
  if (addresses.IsArray()) {
    const auto list = addresses.As<Napi::Array>();
    for (uint32_t i = 0; i < list.Length(); ++i)
      options.addresses.push_back(to_u64(list.Get(i), "addresses"));
  }
  const Napi::Value cgroup = object.Get("cgroup");
  if (!cgroup.IsUndefined()) options.cgroup = to_text(cgroup, "cgroup");
  return TrackerBinding::create(
      classes->tracker.Value(),
      std::make_shared<dirty::SoftDirtyTracker>(blocks_argument(info), std::move(options)),
      Napi::Array::New(info.Env(), 0));
}

struct Support {
  dirty::WriteProtectSupport write_protect;
  bool soft_dirty;
};

Napi::Value support_to_js(Napi::Env env, const Support& support) {
  auto value = Napi::Object::New(env);
  const auto& mode = support.write_protect.mode;
  const bool asynchronous = mode == dirty::ProtectMode::kAsynchronous;
  value.Set("writeProtect",
            mode ? Napi::String::New(env, asynchronous ? "async" : "fault-thread") : env.Null());
  value.Set("writeProtectProblem", support.write_protect.problem);
  value.Set("softDirty", support.soft_dirty);
  return value;
}

Napi::Value probe(const Napi::CallbackInfo& info, const SharedClasses&) {
  return run_async(
      info.Env(), WorkLane::kBulk,
      [blocks = blocks_argument(info)] {
        return Support{dirty::write_protect_support(blocks), dirty::SoftDirtyTracker::supported()};
      },
      support_to_js);
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
  set("createBitmapTracker", create_bitmap);
  set("createSoftDirtyTracker", create_soft_dirty);
  set("probeTrackers", probe);
}

}  // namespace rdma_migrate::bindings
