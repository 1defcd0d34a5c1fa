// The memory that a connection has registered: NativeConnection's registerSpans() and deregister(). Thousands
// of ranges are one call, and none of them is an object of JavaScript's: it knows their keys.
#pragma once

#include <napi.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "engine/endpoint.h"
#include "memory/mapping.h"
#include "memory/range.h"

namespace rdma_migrate::bindings {

// By local key, which is one region's alone in a domain. Any thread.
class Registrations {
 public:
  // In this order: the region goes first, then what it lies in.
  struct Entry {
    std::shared_ptr<memory::Mapping> mapping;
    std::unique_ptr<fabric::MemoryRegion> region;
  };

  // All or none. Throws Error: CONNECTION_CLOSED after close().
  void add(std::vector<Entry> entries);
  // They are the caller's to free. Keys that are not registered are passed over.
  std::vector<Entry> take(std::span<const uint32_t> lkeys);
  // Frees what is left and takes no more. After the endpoint has been closed: then no processing thread is
  // waited for. side_by_side: with threads of the lane of closes, for a device that unpins.
  void close(bool side_by_side);

 private:
  std::mutex mutex_;
  std::unordered_map<uint32_t, Entry> entries_;
  bool closed_ = false;
};

// What to register, in the order of the keys that it answers with.
struct RegisterRequest {
  std::shared_ptr<engine::Endpoint> endpoint;
  std::shared_ptr<Registrations> registrations;
  std::shared_ptr<memory::Mapping> mapping;
  std::vector<memory::Range> ranges;
  uint32_t access = 0;
};

// A Uint32Array of lkey and rkey of each range. Of the software RNIC at once: registering is an entry in a
// table there. Of a device a promise: pinning gigabytes takes seconds. All or none: when one cannot be
// registered, those before it are given back.
Napi::Value register_spans(Napi::Env env, RegisterRequest request);

// A promise, resolved when nothing touches the ranges any more. On the software RNIC a peer that uses one of
// the keys is refused from the call on, on a device when the promise is resolved.
Napi::Value deregister_spans(Napi::Env env, std::shared_ptr<engine::Endpoint> endpoint,
                             std::vector<Registrations::Entry> entries);

}  // namespace rdma_migrate::bindings
