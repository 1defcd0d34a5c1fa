// NativeTracker of lib/native/dirty.ts.
#pragma once

#include <napi.h>

#include <memory>
#include <vector>

#include "dirty/page_digests.h"
#include "dirty/tracker.h"

namespace rdma_migrate::bindings {

// A tracker that is garbage collected without stop() ends its watch then.
class TrackerBinding final : public Napi::ObjectWrap<TrackerBinding> {
 public:
  static Napi::Function define(Napi::Env env);
  // sent: a NativePageDigests a block, or none.
  static Napi::Object create(const Napi::Function& tracker_class, std::shared_ptr<dirty::Tracker> tracker,
                             const Napi::Array& sent);

  explicit TrackerBinding(const Napi::CallbackInfo& info) : Napi::ObjectWrap<TrackerBinding>(info) {}

 private:
  // JavaScript thread only.
  struct Held {
    std::shared_ptr<dirty::Tracker> tracker;
    bool busy = false;
  };

  Napi::Value start(const Napi::CallbackInfo& info);
  Napi::Value collect(const Napi::CallbackInfo& info);
  Napi::Value stop(const Napi::CallbackInfo& info);
  Napi::Value get_last_pause(const Napi::CallbackInfo& info);

  const std::shared_ptr<Held>& held() const;
  std::shared_ptr<Held> claim() const;

  std::shared_ptr<Held> held_;
};

}  // namespace rdma_migrate::bindings
