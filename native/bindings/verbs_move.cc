// NativeVerbsQueuePair: what moves it to another process.
#include <algorithm>
#include <utility>

#include "bindings/arguments.h"
#include "bindings/async.h"
#include "bindings/options.h"
#include "bindings/verbs_queue_pair.h"

namespace rdma_migrate::bindings {
namespace {

fabric::MovePlan plan_argument(const Napi::CallbackInfo& info) {
  const auto from = object_argument(info, 0, "plan");
  fabric::MovePlan plan;
  const auto id = from.Get("id").As<Napi::Uint8Array>();
  if (id.ByteLength() != plan.id.size()) throw bad_argument(info.Env(), "id", "16 bytes");
  std::copy_n(id.Data(), plan.id.size(), plan.id.begin());
  const auto to = from.Get("to").As<Napi::Array>();
  for (uint32_t at = 0; at < to.Length(); ++at) plan.to.push_back(endpoint(to.Get(at).As<Napi::Object>()));
  plan.longest_pause = std::chrono::milliseconds(u32_property(from, "longestPauseMs"));
  plan.ahead = from.Get("ahead").ToBoolean();
  return plan;
}

Napi::Value bytes_value(Napi::Env env, const fabric::Bytes& bytes) {
  return Napi::Buffer<uint8_t>::Copy(env, bytes.data(), bytes.size());
}

}  // namespace

// A promise of the step's end; only one step is under way at a time, but for an abort.
Napi::Value VerbsQueuePairBinding::begin_step(Napi::Env env, fabric::MoveStep step,
                                              const std::function<void(fabric::QueuePair&)>& start) {
  return guarded_promise(env, [&]() -> Napi::Value {
    if (ended_) throw end_error(env);
    if (steps_.contains(step)) throw Error("INVALID_ARGUMENT", "this step of a move is under way already");
    start(live());
    return steps_.emplace(step, Deferred(env)).first->second.Promise();
  });
}

void VerbsQueuePairBinding::end_step(Napi::Env env, fabric::MoveStep step,
                                     const std::optional<Error>& problem) {
  const auto found = steps_.find(step);
  if (found == steps_.end()) return;
  const Deferred deferred = found->second;
  steps_.erase(found);
  if (problem) return deferred.Reject(to_js_error(env, *problem).Value());
  deferred.Resolve(env.Undefined());
}

void VerbsQueuePairBinding::on_move(fabric::MoveStep step, const Error* problem) {
  queue_->post([this, step, problem = problem ? std::optional(*problem) : std::nullopt](Napi::Env env) {
    end_step(env, step, problem);
  });
}

Napi::Value VerbsQueuePairBinding::prepare_move(const Napi::CallbackInfo& info) {
  const fabric::MovePlan plan = plan_argument(info);
  return begin_step(info.Env(), fabric::MoveStep::kPrepared,
                    [&](fabric::QueuePair& queue_pair) { queue_pair.prepare_move(plan); });
}

Napi::Value VerbsQueuePairBinding::announcement(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return bytes_value(info.Env(), live().announcement()); });
}

Napi::Value VerbsQueuePairBinding::stop_for_move(const Napi::CallbackInfo& info) {
  const std::chrono::milliseconds drain(u32_argument(info, 0, "drainMs"));
  return begin_step(info.Env(), fabric::MoveStep::kStopped,
                    [&](fabric::QueuePair& queue_pair) { queue_pair.stop_for_move(drain); });
}

Napi::Value VerbsQueuePairBinding::freeze(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return bytes_value(info.Env(), live().freeze([this] { return completions_->all(); }));
  });
}

Napi::Value VerbsQueuePairBinding::abort_move(const Napi::CallbackInfo& info) {
  return begin_step(info.Env(), fabric::MoveStep::kAborted,
                    [&](fabric::QueuePair& queue_pair) { queue_pair.abort_move(); });
}

void VerbsQueuePairBinding::commit_move(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] {
    completions_->forget();  // the new place has them
    live().commit_move();
  });
}

void VerbsQueuePairBinding::expect(const Napi::CallbackInfo& info) {
  const auto bytes = bytes_argument(info, 0, "announcement");
  guarded(info.Env(), [&] { live().expect(bytes); });
}

void VerbsQueuePairBinding::thaw(const Napi::CallbackInfo& info) {
  const auto bytes = bytes_argument(info, 0, "image");
  guarded(info.Env(), [&] { live().thaw(bytes); });
}

void VerbsQueuePairBinding::take_over(const Napi::CallbackInfo& info) {
  const std::chrono::milliseconds longest_pause(u32_argument(info, 0, "longestPauseMs"));
  guarded(info.Env(), [&] { live().take_over(longest_pause); });
}

}  // namespace rdma_migrate::bindings
