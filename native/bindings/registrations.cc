#include "bindings/registrations.h"

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "bindings/async.h"
#include "bindings/shared_work.h"
#include "engine/file_backing.h"

namespace rdma_migrate::bindings {
namespace {

using Entry = Registrations::Entry;

std::unique_ptr<fabric::MemoryRegion> register_range(const RegisterRequest& request,
                                                     const memory::Range& range) {
  const auto attempt = [&] {
    const uint64_t address = request.mapping->address() + range.offset;
    return request.endpoint->domain().register_mapped(address, range.length, request.access,
                                                      engine::FileBacking::of(*request.mapping));
  };
  try {
    return attempt();
  } catch (const Error& error) {
    if (error.sys_errno() != EFAULT || !request.mapping->make_pinnable()) throw;
  }
  return attempt();
}

std::vector<Entry> register_one_by_one(const RegisterRequest& request) {
  std::vector<Entry> entries;
  entries.reserve(request.ranges.size());
  for (const memory::Range& range : request.ranges)
    entries.push_back({request.mapping, register_range(request, range)});
  return entries;
}

// A device pins: several threads at one time.
std::vector<Entry> register_side_by_side(const RegisterRequest& request) {
  std::vector<Entry> entries(request.ranges.size());
  std::mutex mutex;
  std::optional<Error> failure;
  std::atomic<bool> failed{false};
  share_work(WorkLane::kRegister, entries.size(), [&](size_t at) {
    if (failed.load(std::memory_order_relaxed)) return;
    try {
      entries[at] = {request.mapping, register_range(request, request.ranges[at])};
    } catch (...) {
      std::lock_guard lock(mutex);
      if (!failure) failure = current_error();
      failed = true;
    }
  });
  if (failure) throw *failure;
  return entries;
}

// A device unpins.
void free_side_by_side(WorkLane lane, std::vector<Entry>& entries) {
  share_work(lane, entries.size(), [&](size_t at) { entries[at].region.reset(); });
}

// lkey and rkey of each.
std::vector<uint32_t> carry_out(const RegisterRequest& request, bool pins) {
  std::vector<Entry> entries = pins ? register_side_by_side(request) : register_one_by_one(request);
  std::vector<uint32_t> keys;
  keys.reserve(2 * entries.size());
  for (const Entry& entry : entries) {
    keys.push_back(entry.region->lkey());
    keys.push_back(entry.region->rkey());
  }
  request.registrations->add(std::move(entries));
  return keys;
}

Napi::Value keys_to_js(Napi::Env env, const std::vector<uint32_t>& keys) {
  auto array = Napi::Uint32Array::New(env, keys.size());
  std::copy(keys.begin(), keys.end(), array.Data());
  return array;
}

}  // namespace

void Registrations::add(std::vector<Entry> entries) {
  std::lock_guard lock(mutex_);
  if (closed_) throw Error("CONNECTION_CLOSED", "the connection was closed while memory was registered");
  for (Entry& entry : entries) {
    const uint32_t lkey = entry.region->lkey();
    entries_.insert_or_assign(lkey, std::move(entry));
  }
}

std::vector<Entry> Registrations::take(std::span<const uint32_t> lkeys) {
  std::vector<Entry> taken;
  taken.reserve(lkeys.size());
  std::lock_guard lock(mutex_);
  for (const uint32_t lkey : lkeys) {
    if (auto node = entries_.extract(lkey)) taken.push_back(std::move(node.mapped()));
  }
  return taken;
}

void Registrations::close(bool side_by_side) {
  std::vector<Entry> left;  // freed without the lock
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    for (auto& [lkey, entry] : entries_) left.push_back(std::move(entry));
    entries_.clear();
  }
  if (side_by_side) free_side_by_side(WorkLane::kClose, left);
}

Napi::Value register_spans(Napi::Env env, RegisterRequest request) {
  const bool pins = request.endpoint->domain().pins_memory();
  if (!pins) return guarded(env, [&] { return keys_to_js(env, carry_out(request, pins)); });
  return run_async(
      env, WorkLane::kRegister, [request = std::move(request), pins] { return carry_out(request, pins); },
      [](Napi::Env js, const std::vector<uint32_t>& keys) { return keys_to_js(js, keys); });
}

// The last one to let go of a mapping or an endpoint unmaps and frees, which takes its time; and a processing
// thread may be waiting for a page of a range.
Napi::Value deregister_spans(Napi::Env env, std::shared_ptr<engine::Endpoint> endpoint,
                             std::vector<Entry> entries) {
  bool left = true;
  bool last = false;
  for (const Entry& entry : entries) {
    left = entry.region->withdraw() && left;
    last = last || entry.mapping.use_count() <= static_cast<long>(entries.size());
  }
  if (entries.empty() || (left && !last)) {
    entries.clear();
    const auto deferred = Napi::Promise::Deferred::New(env);
    deferred.Resolve(env.Undefined());
    return deferred.Promise();
  }
  const bool pins = endpoint->domain().pins_memory();
  // A page that a disk keeps back must not hold up the closes of others: many ranges may wait for one page.
  const WorkLane lane = last || !pins ? WorkLane::kBulk : WorkLane::kClose;
  const auto held = std::make_shared<std::vector<Entry>>(std::move(entries));
  return run_anyway(
      env, lane,
      [held, endpoint, lane, pins] {
        if (pins) free_side_by_side(lane, *held);
        held->clear();
      },
      [](Napi::Env js) -> Napi::Value { return js.Undefined(); });
}

}  // namespace rdma_migrate::bindings
