#include "bindings/dirty_tracker.h"

#include <utility>

#include "bindings/arguments.h"
#include "bindings/async.h"
#include "bindings/memory_bindings.h"

namespace rdma_migrate::bindings {
namespace {

std::vector<std::shared_ptr<memory::Bitmap>> bitmaps_argument(const Napi::CallbackInfo& info) {
  if (!info[0].IsArray()) throw bad_argument(info.Env(), "bitmaps", "an array of bitmaps, one a block");
  const auto list = info[0].As<Napi::Array>();
  std::vector<std::shared_ptr<memory::Bitmap>> bitmaps;
  for (uint32_t i = 0; i < list.Length(); ++i) bitmaps.push_back(bitmap_from_js(list.Get(i)));
  return bitmaps;
}

// Marks the end of a call when its promise has settled.
template <typename Held>
std::shared_ptr<void> release_of(const std::shared_ptr<Held>& held) {
  return std::shared_ptr<void>(nullptr, [held](void*) { held->busy = false; });
}

}  // namespace

Napi::Function TrackerBinding::define(Napi::Env env) {
  return DefineClass(env, "NativeTracker",
                     {
                         InstanceMethod<&TrackerBinding::start>("start"),
                         InstanceMethod<&TrackerBinding::collect>("collect"),
                         InstanceMethod<&TrackerBinding::stop>("stop"),
                         InstanceAccessor<&TrackerBinding::get_last_pause>("lastPauseMs"),
                     });
}

Napi::Object TrackerBinding::create(const Napi::Function& tracker_class,
                                    std::shared_ptr<dirty::Tracker> tracker, const Napi::Array& sent) {
  const Napi::Object object = tracker_class.New({});
  Unwrap(object)->held_ = std::make_shared<Held>(Held{std::move(tracker)});
  object.Set("sent", sent);
  return object;
}

const std::shared_ptr<TrackerBinding::Held>& TrackerBinding::held() const {
  if (!held_) throw Error("INVALID_ARGUMENT", "NativeTracker cannot be constructed: use create...Tracker()");
  return held_;
}

std::shared_ptr<TrackerBinding::Held> TrackerBinding::claim() const {
  if (held()->busy) throw Error("INVALID_ARGUMENT", "one call at a time: await the one before");
  held_->busy = true;
  return held_;
}

Napi::Value TrackerBinding::start(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const auto claimed = claim();
    return run_async(
        info.Env(), WorkLane::kBulk, [tracker = claimed->tracker.get()] { tracker->start(); },
        [release = release_of(claimed)](Napi::Env env) -> Napi::Value { return env.Undefined(); });
  });
}

Napi::Value TrackerBinding::collect(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    auto bitmaps = bitmaps_argument(info);
    const auto claimed = claim();
    return run_async(
        info.Env(), WorkLane::kBulk,
        [tracker = claimed->tracker.get(), bitmaps = std::move(bitmaps)] {
          return tracker->collect(bitmaps);
        },
        [release = release_of(claimed)](Napi::Env env, uint64_t pages) -> Napi::Value {
          return Napi::BigInt::New(env, pages);
        });
  });
}

Napi::Value TrackerBinding::stop(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    return run_async(info.Env(), WorkLane::kBulk, [tracker = held()->tracker] { tracker->stop(); });
  });
}

Napi::Value TrackerBinding::get_last_pause(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return Napi::Number::New(info.Env(), held()->tracker->last_pause().count());
  });
}

}  // namespace rdma_migrate::bindings
