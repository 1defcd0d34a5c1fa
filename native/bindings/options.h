// NativeConnectionOptions and endpoints, read from JavaScript.
#pragma once

#include <napi.h>

#include "bindings/arguments.h"
#include "fabric/fabric.h"

namespace rdma_migrate::bindings {

inline fabric::QueuePairOptions queue_pair_options(const Napi::Object& from) {
  fabric::QueuePairOptions options;
  options.crc = from.Get("crc").ToBoolean();
  options.connect_timeout_ms = u32_property(from, "connectTimeoutMs");
  options.stall_timeout_ms = u32_property(from, "stallTimeoutMs");
  if (const Napi::Value rate = from.Get("connectionsPerSecond"); !rate.IsUndefined())
    options.connections_per_second = to_u32(rate, "connectionsPerSecond");
  options.hold_until_protected = from.Get("holdUntilProtected").ToBoolean();
  if (const Napi::Value resume = from.Get("resume"); !resume.IsUndefined()) {
    const auto limits = resume.As<Napi::Object>();
    options.resume_window_ms = u32_property(limits, "windowMs");
    options.resume_retry_ms = u32_property(limits, "retryMs");
    options.resume_is_asked = limits.Get("asked").ToBoolean();
  }
  return options;
}

inline fabric::Endpoint endpoint(const Napi::Object& from) {
  const uint32_t port = u32_property(from, "port");
  if (port > 65535) throw bad_argument(from.Env(), "port", "an integer from 0 to 65535");
  return {text_property(from, "host"), static_cast<uint16_t>(port)};
}

}  // namespace rdma_migrate::bindings
