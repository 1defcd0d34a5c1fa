#include "bindings/connection_binding.h"

#include <string>
#include <utility>

#include "bindings/arguments.h"
#include "bindings/async.h"
#include "bindings/listener_binding.h"
#include "bindings/memory_bindings.h"
#include "bindings/memory_coverage.h"
#include "bindings/options.h"
#include "bindings/protection.h"
#include "bindings/registrations.h"
#include "bindings/write_job.h"
#include "engine/placed_pages.h"

namespace rdma_migrate::bindings {
namespace {

// Arguments of the constructor, which Node-API can only call with JavaScript values.
struct Creation {
  const SharedTransportClasses* classes;
  fabric::Provider* provider;
  const fabric::QueuePairOptions* options;
};

// Of every object that wraps a connection.
constexpr napi_type_tag kConnectionTag{0x6d1f0c2ab7e94d53, 0x9b0e7ac1d2f84865};

}  // namespace

Napi::Function ConnectionBinding::define(Napi::Env env) {
  return DefineClass(env, "NativeConnection",
                     {
                         InstanceMethod<&ConnectionBinding::connect>("connect"),
                         InstanceMethod<&ConnectionBinding::accept>("accept"),
                         InstanceMethod<&ConnectionBinding::connect_rail>("connectRail"),
                         InstanceMethod<&ConnectionBinding::accept_rail>("acceptRail"),
                         InstanceMethod<&ConnectionBinding::barrier>("barrier"),
                         InstanceMethod<&ConnectionBinding::release_rails>("releaseRails"),
                         InstanceMethod<&ConnectionBinding::send>("send"),
                         InstanceMethod<&ConnectionBinding::receive>("receive"),
                         InstanceMethod<&ConnectionBinding::link_change>("linkChange"),
                         InstanceMethod<&ConnectionBinding::protect>("protect"),
                         InstanceMethod<&ConnectionBinding::resume_receive>("resumeReceive"),
                         InstanceMethod<&ConnectionBinding::register_spans>("registerSpans"),
                         InstanceMethod<&ConnectionBinding::deregister>("deregister"),
                         InstanceMethod<&ConnectionBinding::observe_placement>("observePlacement"),
                         InstanceMethod<&ConnectionBinding::revoke_remote_access>("revokeRemoteAccess"),
                         InstanceMethod<&ConnectionBinding::write>("write"),
                         InstanceMethod<&ConnectionBinding::cancel_writes>("cancelWrites"),
                         InstanceMethod<&ConnectionBinding::set_max_bandwidth>("setMaxBandwidth"),
                         InstanceMethod<&ConnectionBinding::allow_large_segments>("allowLargeSegments"),
                         InstanceMethod<&ConnectionBinding::stats>("stats"),
                         InstanceMethod<&ConnectionBinding::disconnect>("disconnect"),
                         InstanceMethod<&ConnectionBinding::close>("close"),
                         InstanceAccessor<&ConnectionBinding::get_counters>("counters"),
                         InstanceAccessor<&ConnectionBinding::get_rails>("rails"),
                         InstanceAccessor<&ConnectionBinding::get_info>("info"),
                         InstanceAccessor<&ConnectionBinding::get_closed>("closed"),
                     });
}

Napi::Object ConnectionBinding::create(Napi::Env env, const SharedTransportClasses& classes,
                                       fabric::Provider& provider, const fabric::QueuePairOptions& options) {
  Creation creation{&classes, &provider, &options};
  return classes->connection.New({Napi::External<Creation>::New(env, &creation)});
}

ConnectionBinding::ConnectionBinding(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<ConnectionBinding>(info) {
  if (info.Length() != 1 || !info[0].IsExternal()) {
    throw Napi::TypeError::New(info.Env(), "NativeConnection cannot be constructed: use createConnection()");
  }
  const auto* creation = info[0].As<Napi::External<Creation>>().Data();
  classes_ = *creation->classes;
  info.This().As<Napi::Object>().TypeTag(&kConnectionTag);
  guarded(info.Env(), [&] { open(info.Env(), *creation->provider, *creation->options); });
}

std::shared_ptr<engine::Endpoint> ConnectionBinding::endpoint_from_js(const Napi::Value& value) {
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&kConnectionTag))
    throw bad_argument(value.Env(), "connection", "a connection of createConnection()");
  return Unwrap(value.As<Napi::Object>())->endpoint_;
}

ConnectionBinding::~ConnectionBinding() {
  // Only at the environment's end: an open connection holds a reference to itself.
  if (!endpoint_) return;
  endpoint_->close();
  registrations_->close(false);
  queue_->abandon();
}

void ConnectionBinding::open(Napi::Env env, fabric::Provider& provider,
                             const fabric::QueuePairOptions& options) {
  queue_ = std::make_shared<JsQueue>(env, "rdma-migrate connection");
  try {
    endpoint_ = std::make_shared<engine::Endpoint>(provider.open_domain(), options,
                                                   static_cast<engine::EndpointObserver&>(*this));
    counters_ = Napi::Persistent(counters_to_js(env, endpoint_->writer().counters()));
    closed_.emplace(env);
    closed_promise_ = Napi::Persistent(closed_->Promise().As<Napi::Object>());
    Ref();
  } catch (...) {
    // This object is freed before the next task could run.
    if (endpoint_) endpoint_->close();
    queue_->abandon();
    throw;
  }
}

Napi::Value ConnectionBinding::begin_handshake(Napi::Env env, const std::function<void()>& start) {
  if (handshake_begun_) throw Napi::Error::New(env, "the handshake of this connection has begun already");
  handshake_begun_ = true;
  const auto deferred = Deferred::New(env);
  if (ended_) {
    deferred.Reject(end_error(env).Value());
    return deferred.Promise();
  }
  try {
    start();
    handshake_ = deferred;
  } catch (...) {
    deferred.Reject(to_js_error(env, current_error()).Value());
  }
  return deferred.Promise();
}

Napi::Value ConnectionBinding::connect(const Napi::CallbackInfo& info) {
  const auto to = endpoint(object_argument(info, 0, "endpoint"));
  const auto data = bytes_argument(info, 1, "privateData");
  return begin_handshake(info.Env(), [&] { endpoint_->queue_pair().connect(to, data); });
}

Napi::Value ConnectionBinding::accept(const Napi::CallbackInfo& info) {
  auto request = RequestBinding::take_from_js(info[0]);
  const auto data = bytes_argument(info, 1, "privateData");
  const bool at_once = info[2].ToBoolean();
  return begin_handshake(info.Env(),
                         [&] { endpoint_->queue_pair().accept(std::move(request), data, at_once); });
}

// Throws where start() does: nothing has begun then.
template <typename Start>
Napi::Value ConnectionBinding::begin(Napi::Env env, Deferreds& waiting, const Start& start) {
  if (ended_) throw end_error(env);
  return guarded(env, [&]() -> Napi::Value {
    const uint64_t id = next_id_++;
    const auto deferred = Deferred::New(env);
    waiting.emplace(id, deferred);
    try {
      start(id);
    } catch (...) {
      waiting.erase(id);
      throw;
    }
    return deferred.Promise();
  });
}

// What it throws is a rejection.
template <typename Start>
Napi::Value ConnectionBinding::promised(Napi::Env env, Deferreds& waiting, const Start& start) {
  return guarded_promise(env, [&] { return begin(env, waiting, start); });
}

Napi::Value ConnectionBinding::connect_rail(const Napi::CallbackInfo& info) {
  const auto to = endpoint(object_argument(info, 0, "endpoint"));
  const auto data = bytes_argument(info, 1, "privateData");
  const uint32_t timeout_ms = u32_argument(info, 2, "connectTimeoutMs");
  const auto protection = protection_argument(info, 3);
  return promised(info.Env(), rails_,
                  [&](uint64_t id) { endpoint_->connect_rail(to, data, timeout_ms, id, protection); });
}

Napi::Value ConnectionBinding::accept_rail(const Napi::CallbackInfo& info) {
  auto request = RequestBinding::take_from_js(info[0]);
  const auto data = bytes_argument(info, 1, "privateData");
  const auto protection = protection_argument(info, 2);
  return promised(info.Env(), rails_,
                  [&](uint64_t id) { endpoint_->accept_rail(std::move(request), data, id, protection); });
}

Napi::Value ConnectionBinding::barrier(const Napi::CallbackInfo& info) {
  return promised(info.Env(), barriers_, [&](uint64_t id) { endpoint_->barrier(id); });
}

void ConnectionBinding::release_rails(const Napi::CallbackInfo&) {
  if (endpoint_) endpoint_->release_rails();
}

// Where nothing is posted the caller may have to know: that is thrown.
Napi::Value ConnectionBinding::send(const Napi::CallbackInfo& info) {
  const auto message = bytes_argument(info, 0, "message");
  return begin(info.Env(), sends_, [&](uint64_t id) {
    if (!endpoint_->send(message, id)) {
      throw Error("INVALID_ARGUMENT", "too many control messages under way: await each send before the next");
    }
  });
}

Napi::Value ConnectionBinding::receive(const Napi::CallbackInfo& info) {
  const auto deferred = Deferred::New(info.Env());
  receives_.push_back(deferred);
  settle_receives(info.Env());
  return deferred.Promise();
}

Napi::Value ConnectionBinding::link_change(const Napi::CallbackInfo& info) {
  return link_changes_.next(info.Env());
}

// On a thread of the pool: it waits for the provider's.
Napi::Value ConnectionBinding::protect(const Napi::CallbackInfo& info) {
  const fabric::Protection protection{.send = secret_argument(info[0], "send"),
                                      .receive = secret_argument(info[1], "receive")};
  const auto endpoint = endpoint_;
  return run_async(info.Env(), WorkLane::kClose, [endpoint, protection] {
    if (!endpoint) throw Error("CONNECTION_CLOSED", "the connection has been closed");
    endpoint->queue_pair().protect(protection);
  });
}

void ConnectionBinding::resume_receive(const Napi::CallbackInfo& info) {
  if (endpoint_) endpoint_->queue_pair().resume_receive(info[0].ToBoolean());
}

Napi::Value ConnectionBinding::register_spans(const Napi::CallbackInfo& info) {
  RegisterRequest request{endpoint_, registrations_, mapping_from_js(info[0]), {}, 0};
  const auto spans = u64_array(info[1], "spans");
  request.access = u32_argument(info, 2, "access");
  const uint64_t end = request.mapping->length();
  bool inside = spans.size() % 2 == 0;
  for (size_t at = 0; inside && at < spans.size(); at += 2) {
    const memory::Range range{spans[at], spans[at + 1]};
    inside = range.length > 0 && range.offset <= end && range.length <= end - range.offset;
    request.ranges.push_back(range);
  }
  if (!inside)
    throw to_js_error(info.Env(), Error("INVALID_ARGUMENT", "registerSpans: a range leaves the mapping"));
  if (!endpoint_) throw end_error(info.Env());
  return bindings::register_spans(info.Env(), std::move(request));
}

Napi::Value ConnectionBinding::deregister(const Napi::CallbackInfo& info) {
  const auto lkeys = u32_array(info[0], "lkeys");
  return guarded(info.Env(),
                 [&] { return deregister_spans(info.Env(), endpoint_, registrations_->take(lkeys)); });
}

Napi::Value ConnectionBinding::observe_placement(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    auto coverage = coverage_from_js(info[0]);
    if (!info[1].IsArray()) throw bad_argument(env, "mappings", "an array of mappings");
    const auto list = info[1].As<Napi::Array>();
    std::vector<uint64_t> addresses;
    for (uint32_t i = 0; i < list.Length(); ++i) addresses.push_back(mapping_from_js(list.Get(i))->address());
    if (!endpoint_) throw end_error(env);
    auto observer = std::make_shared<engine::PlacedPages>(std::move(coverage), addresses);
    return Napi::Boolean::New(env, endpoint_->domain().observe_placement(std::move(observer)));
  });
}

// On a thread of the pool: a NIC unpins what it deregisters.
Napi::Value ConnectionBinding::revoke_remote_access(const Napi::CallbackInfo& info) {
  const auto endpoint = endpoint_;
  return run_async(info.Env(), WorkLane::kClose, [endpoint] {
    if (endpoint) endpoint->domain().revoke_remote_access();
  });
}

Napi::Value ConnectionBinding::write(const Napi::CallbackInfo& info) {
  engine::WriteJob work = write_job_from_js(object_argument(info, 0, "job"));
  return promised(info.Env(), writes_, [&](uint64_t id) {
    // The queue outlives the writer: endpoint_->close() ends every job before the queue is released.
    endpoint_->writer().submit(std::move(work), [this, id](const engine::WriteResult& result) {
      queue_->post([this, id, result](Napi::Env js) { settle_write(js, id, result); });
    });
  });
}

void ConnectionBinding::cancel_writes(const Napi::CallbackInfo&) {
  if (endpoint_) endpoint_->writer().cancel();
}

void ConnectionBinding::allow_large_segments(const Napi::CallbackInfo&) {
  if (endpoint_) endpoint_->allow_large_segments();
}

void ConnectionBinding::set_max_bandwidth(const Napi::CallbackInfo& info) {
  const uint64_t rate = u64_argument(info, 0, "bytesPerSecond");
  guarded(info.Env(), [&] {
    if (endpoint_) endpoint_->writer().set_max_bandwidth(rate);
  });
}

Napi::Value ConnectionBinding::disconnect(const Napi::CallbackInfo&) {
  if (!ended_) endpoint_->queue_pair().disconnect();
  return closed_promise_.Value();
}

Napi::Value ConnectionBinding::close(const Napi::CallbackInfo& info) {
  if (!close_promise_.IsEmpty()) return close_promise_.Value();
  const auto endpoint = endpoint_;
  const auto queue = queue_;
  const Napi::Promise promise = run_anyway(
      info.Env(), WorkLane::kClose,
      [endpoint, registrations = registrations_] {
        const bool pins = endpoint->domain().pins_memory();
        endpoint->close();
        registrations->close(pins);
      },
      [this, queue](Napi::Env env) -> Napi::Value {
        queue->post([this, queue](Napi::Env) {
          let_go();
          queue->release();
          Unref();
        });
        return env.Undefined();
      });
  close_promise_ = Napi::Persistent(promise.As<Napi::Object>());
  return promise;
}

// The buffers go now and not when V8, which does not know their size, collects this object.
void ConnectionBinding::let_go() {
  last_info_ = endpoint_->queue_pair().info();
  last_totals_ = endpoint_->totals();
  endpoint_.reset();
}

Napi::Value ConnectionBinding::get_counters(const Napi::CallbackInfo&) { return counters_.Value(); }
Napi::Value ConnectionBinding::get_closed(const Napi::CallbackInfo&) { return closed_promise_.Value(); }

Napi::Value ConnectionBinding::stats(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Totals totals = endpoint_ ? endpoint_->totals() : last_totals_;
  auto value = Napi::Object::New(env);
  value.Set("bytesSent", Napi::BigInt::New(env, totals.bytes_sent));
  value.Set("bytesReceived", Napi::BigInt::New(env, totals.bytes_received));
  value.Set("writeBytesPlaced", Napi::BigInt::New(env, totals.write_bytes_placed));
  value.Set("wireMicroseconds", Napi::BigInt::New(env, static_cast<uint64_t>(totals.wire_time.count())));
  value.Set("payloadReceived", Napi::BigInt::New(env, totals.payload_received));
  value.Set("resumes", Napi::Number::New(env, static_cast<double>(totals.resumes)));
  value.Set("payloadResent", Napi::BigInt::New(env, totals.payload_resent));
  return value;
}

Napi::Value ConnectionBinding::get_rails(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), endpoint_ ? static_cast<double>(endpoint_->rails()) : 0);
}

Napi::Value ConnectionBinding::get_info(const Napi::CallbackInfo& info) {
  const auto facts = endpoint_ ? endpoint_->queue_pair().info() : last_info_;
  auto value = Napi::Object::New(info.Env());
  value.Set("provider", facts.provider);
  value.Set("localAddress", facts.local_address);
  value.Set("peerAddress", facts.peer_address);
  value.Set("detail", facts.detail);
  value.Set("crc", facts.crc);
  value.Set("resumable", facts.resumable);
  value.Set("pinsMemory", endpoint_ && endpoint_->domain().pins_memory());
  return value;
}

}  // namespace rdma_migrate::bindings
