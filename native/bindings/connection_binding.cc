#include "bindings/connection_binding.h"

#include <string>
#include <utility>

#include "bindings/arguments.h"
#include "bindings/async.h"
#include "bindings/dirty_bindings.h"
#include "bindings/memory_bindings.h"
#include "bindings/memory_coverage.h"
#include "bindings/region_binding.h"
#include "engine/placed_pages.h"

namespace rdma_migrate::bindings {
namespace {

// Arguments of the constructor, which Node-API can only call with JavaScript values.
struct Creation {
  const SharedTransportClasses* classes;
  const engine::Endpoint::MakeConnection* make_connection;
  uint32_t max_send_wr;
};

Napi::Value bytes_to_js(Napi::Env env, const fabric::Bytes& bytes) {
  return Napi::Buffer<uint8_t>::Copy(env, bytes.data(), bytes.size());
}

Napi::Object counters_to_js(Napi::Env env, std::shared_ptr<engine::WriterCounters> counters) {
  auto keep = std::make_unique<std::shared_ptr<engine::WriterCounters>>(std::move(counters));
  const auto buffer = Napi::ArrayBuffer::New(env, keep->get(), sizeof(engine::WriterCounters),
                                             [held = keep.get()](Napi::Env, void*) { delete held; });
  keep.release();
  constexpr size_t kCount = sizeof(engine::WriterCounters) / sizeof(uint64_t);
  return Napi::BigUint64Array::New(env, kCount, buffer, 0).As<Napi::Object>();
}

template <typename Map>
auto take(Map& map, uint64_t id) {
  return map.extract(id);
}

}  // namespace

Napi::Function ConnectionBinding::define(Napi::Env env) {
  return DefineClass(env, "NativeConnection",
                     {
                         InstanceMethod<&ConnectionBinding::connect>("connect"),
                         InstanceMethod<&ConnectionBinding::accept>("accept"),
                         InstanceMethod<&ConnectionBinding::reject>("reject"),
                         InstanceMethod<&ConnectionBinding::send>("send"),
                         InstanceMethod<&ConnectionBinding::receive>("receive"),
                         InstanceMethod<&ConnectionBinding::register_memory>("registerMemory"),
                         InstanceMethod<&ConnectionBinding::observe_placement>("observePlacement"),
                         InstanceMethod<&ConnectionBinding::revoke_remote_access>("revokeRemoteAccess"),
                         InstanceMethod<&ConnectionBinding::write>("write"),
                         InstanceMethod<&ConnectionBinding::cancel_writes>("cancelWrites"),
                         InstanceMethod<&ConnectionBinding::set_max_bandwidth>("setMaxBandwidth"),
                         InstanceMethod<&ConnectionBinding::stats>("stats"),
                         InstanceMethod<&ConnectionBinding::disconnect>("disconnect"),
                         InstanceMethod<&ConnectionBinding::close>("close"),
                         InstanceAccessor<&ConnectionBinding::get_counters>("counters"),
                         InstanceAccessor<&ConnectionBinding::get_info>("info"),
                         InstanceAccessor<&ConnectionBinding::get_closed>("closed"),
                     });
}

Napi::Object ConnectionBinding::create(Napi::Env env, const SharedTransportClasses& classes,
                                       const engine::Endpoint::MakeConnection& make_connection,
                                       uint32_t max_send_wr) {
  Creation creation{&classes, &make_connection, max_send_wr};
  return classes->connection.New({Napi::External<Creation>::New(env, &creation)});
}

ConnectionBinding::ConnectionBinding(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<ConnectionBinding>(info) {
  if (info.Length() != 1 || !info[0].IsExternal()) {
    throw Napi::TypeError::New(info.Env(),
                               "NativeConnection cannot be constructed: use createConnection() or take()");
  }
  const auto* creation = info[0].As<Napi::External<Creation>>().Data();
  classes_ = *creation->classes;
  guarded(info.Env(), [&] { open(info.Env(), *creation->make_connection, creation->max_send_wr); });
}

ConnectionBinding::~ConnectionBinding() {
  // Only at the environment's end: an open connection holds a reference to itself.
  if (!endpoint_) return;
  endpoint_->close();
  queue_->abandon();
}

void ConnectionBinding::open(Napi::Env env, const engine::Endpoint::MakeConnection& make_connection,
                             uint32_t max_send_wr) {
  queue_ = std::make_shared<JsQueue>(env, "rdma-migrate connection");
  try {
    endpoint_ = std::make_shared<engine::Endpoint>(make_connection, max_send_wr,
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
  const auto data = bytes_argument(info, 0, "privateData");
  return begin_handshake(info.Env(), [&] { endpoint_->connection().connect(data); });
}

Napi::Value ConnectionBinding::accept(const Napi::CallbackInfo& info) {
  const auto data = bytes_argument(info, 0, "privateData");
  return begin_handshake(info.Env(), [&] { endpoint_->connection().accept(data); });
}

Napi::Value ConnectionBinding::reject(const Napi::CallbackInfo& info) {
  const auto data = bytes_argument(info, 0, "privateData");
  guarded(info.Env(), [&] {
    if (!ended_) endpoint_->connection().reject(data);
  });
  return closed_promise_.Value();
}

Napi::Value ConnectionBinding::send(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto message = bytes_argument(info, 0, "message");
  const uint64_t id = next_id_++;
  const auto deferred = Deferred::New(env);
  if (ended_) {
    deferred.Reject(end_error(env).Value());
    return deferred.Promise();
  }
  sends_.emplace(id, deferred);
  try {
    if (!endpoint_->send(message, id)) {
      throw Error("INVALID_ARGUMENT", "too many control messages under way: await each send before the next");
    }
  } catch (...) {
    sends_.erase(id);
    deferred.Reject(to_js_error(env, current_error()).Value());
  }
  return deferred.Promise();
}

Napi::Value ConnectionBinding::receive(const Napi::CallbackInfo& info) {
  const auto deferred = Deferred::New(info.Env());
  receives_.push_back(deferred);
  settle_receives(info.Env());
  return deferred.Promise();
}

Napi::Value ConnectionBinding::register_memory(const Napi::CallbackInfo& info) {
  const auto mapping = mapping_from_js(info[0]);
  const uint64_t offset = u64_argument(info, 1, "offset");
  const uint64_t length = u64_argument(info, 2, "length");
  const uint32_t access = u32_argument(info, 3, "access");
  if (length == 0 || offset > mapping->length() || length > mapping->length() - offset) {
    throw to_js_error(info.Env(), Error("INVALID_ARGUMENT", "registerMemory: the range leaves the mapping"));
  }
  if (!endpoint_) throw end_error(info.Env());
  return RegionBinding::register_async(info.Env(), classes_, endpoint_, mapping, offset, length, access);
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
    return Napi::Boolean::New(env, endpoint_->connection().observe_placement(std::move(observer)));
  });
}

// On a worker thread: a NIC unpins what it deregisters.
Napi::Value ConnectionBinding::revoke_remote_access(const Napi::CallbackInfo& info) {
  const auto endpoint = endpoint_;
  return run_async(
      info.Env(),
      [endpoint] {
        if (endpoint) endpoint->connection().revoke_remote_access();
      },
      [](Napi::Env env) -> Napi::Value { return env.Undefined(); });
}

Napi::Value ConnectionBinding::write(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto job = object_argument(info, 0, "job");
  const auto mapping = mapping_from_js(job.Get("mapping"));
  const uint64_t offset = u64_property(job, "offset");
  engine::WriteJob work;
  work.length = u64_property(job, "length");
  work.page_size = mapping->page_size();
  work.bitmap = bitmap_from_js(job.Get("bitmap"));
  work.first_page = offset / work.page_size;
  if (offset > mapping->length() || work.length > mapping->length() - offset ||
      offset % work.page_size != 0 || work.length % work.page_size != 0 ||
      work.bitmap->pages() < (offset + work.length) / work.page_size) {
    throw to_js_error(env, Error("INVALID_ARGUMENT", "write: the span leaves the mapping or its bitmap"));
  }
  const Napi::Value digests = job.Get("digests");
  if (!digests.IsUndefined()) {
    work.digests = digests_from_js(digests);
    if (work.digests->page_size() != work.page_size || work.digests->pages() != work.bitmap->pages()) {
      throw to_js_error(env, Error("INVALID_ARGUMENT", "write: the digests are those of another block"));
    }
  }
  work.local_address = mapping->address() + offset;
  work.lkey = u32_property(job, "lkey");
  work.rkey = u32_property(job, "rkey");
  work.remote_address = u64_property(job, "remoteAddress");
  work.keep_alive = mapping;

  const uint64_t id = next_id_++;
  const auto deferred = Deferred::New(env);
  if (ended_) {
    deferred.Reject(end_error(env).Value());
    return deferred.Promise();
  }
  writes_.emplace(id, deferred);
  // The queue outlives the writer: endpoint_->close() joins it before the queue is released.
  endpoint_->writer().submit(std::move(work), [this, id](const engine::WriteResult& result) {
    queue_->post([this, id, result](Napi::Env js) { settle_write(js, id, result); });
  });
  return deferred.Promise();
}

void ConnectionBinding::settle_write(Napi::Env env, uint64_t id, const engine::WriteResult& result) {
  auto entry = take(writes_, id);
  if (entry.empty()) return;
  if (!result.ok) {
    entry.mapped().Reject((result.error ? to_js_error(env, *result.error) : end_error(env)).Value());
    return;
  }
  auto value = Napi::Object::New(env);
  value.Set("pages", Napi::BigInt::New(env, result.pages));
  value.Set("bytes", Napi::BigInt::New(env, result.bytes));
  value.Set("writes", Napi::BigInt::New(env, result.writes));
  entry.mapped().Resolve(value);
}

void ConnectionBinding::cancel_writes(const Napi::CallbackInfo&) {
  if (endpoint_) endpoint_->writer().cancel();
}

void ConnectionBinding::set_max_bandwidth(const Napi::CallbackInfo& info) {
  const uint64_t rate = u64_argument(info, 0, "bytesPerSecond");
  if (endpoint_) endpoint_->writer().set_max_bandwidth(rate);
}

Napi::Value ConnectionBinding::disconnect(const Napi::CallbackInfo&) {
  if (!ended_) endpoint_->connection().disconnect();
  return closed_promise_.Value();
}

Napi::Value ConnectionBinding::close(const Napi::CallbackInfo& info) {
  if (!close_promise_.IsEmpty()) return close_promise_.Value();
  const auto endpoint = endpoint_;
  const auto queue = queue_;
  const Napi::Promise promise = run_async(
      info.Env(), [endpoint] { endpoint->close(); },
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

ConnectionBinding::Stats ConnectionBinding::stats_of(engine::Endpoint& endpoint) {
  const auto& counters = endpoint.connection().counters();
  const auto wire_us = static_cast<uint64_t>(endpoint.connection().wire_time().count());
  return {counters.bytes_sent, counters.bytes_received, counters.write_bytes_placed, wire_us,
          counters.payload_received};
}

// The buffers go now and not when V8, which does not know their size, collects this object.
void ConnectionBinding::let_go() {
  last_info_ = endpoint_->connection().info();
  last_stats_ = stats_of(*endpoint_);
  endpoint_.reset();
}

Napi::Value ConnectionBinding::get_counters(const Napi::CallbackInfo&) { return counters_.Value(); }
Napi::Value ConnectionBinding::get_closed(const Napi::CallbackInfo&) { return closed_promise_.Value(); }

Napi::Value ConnectionBinding::stats(const Napi::CallbackInfo& info) {
  const Stats stats = endpoint_ ? stats_of(*endpoint_) : last_stats_;
  auto value = Napi::Object::New(info.Env());
  value.Set("bytesSent", Napi::BigInt::New(info.Env(), stats.bytes_sent));
  value.Set("bytesReceived", Napi::BigInt::New(info.Env(), stats.bytes_received));
  value.Set("writeBytesPlaced", Napi::BigInt::New(info.Env(), stats.write_bytes_placed));
  value.Set("wireMicroseconds", Napi::BigInt::New(info.Env(), stats.wire_us));
  value.Set("payloadReceived", Napi::BigInt::New(info.Env(), stats.payload_received));
  return value;
}

Napi::Value ConnectionBinding::get_info(const Napi::CallbackInfo& info) {
  const auto facts = endpoint_ ? endpoint_->connection().info() : last_info_;
  auto value = Napi::Object::New(info.Env());
  value.Set("provider", facts.provider);
  value.Set("localAddress", facts.local_address);
  value.Set("peerAddress", facts.peer_address);
  value.Set("detail", facts.detail);
  value.Set("crc", facts.crc);
  value.Set("pinsMemory", endpoint_ && endpoint_->connection().pins_memory());
  return value;
}

void ConnectionBinding::established(fabric::Bytes private_data) {
  queue_->post([this, data = std::move(private_data)](Napi::Env env) {
    if (const auto deferred = std::exchange(handshake_, std::nullopt))
      deferred->Resolve(bytes_to_js(env, data));
  });
}

void ConnectionBinding::message_arrived() {
  queue_->post([this](Napi::Env env) { settle_receives(env); });
}

void ConnectionBinding::message_sent(uint64_t token, bool ok) {
  queue_->post([this, token, ok](Napi::Env env) {
    auto entry = take(sends_, token);
    if (entry.empty()) return;
    if (ok) {
      entry.mapped().Resolve(env.Undefined());
    } else {
      entry.mapped().Reject(end_error(env).Value());
    }
  });
}

void ConnectionBinding::receive_failed(Error reason) {
  queue_->post([this, reason = std::move(reason)](Napi::Env env) {
    receive_failure_ = reason;
    settle_receives(env);
  });
}

void ConnectionBinding::closed(std::optional<Error> reason) {
  queue_->post([this, reason = std::move(reason)](Napi::Env env) { handle_closed(env, reason); });
}

void ConnectionBinding::settle_receives(Napi::Env env) {
  while (!receives_.empty()) {
    std::optional<fabric::Bytes> message;
    std::optional<Error> failure = ended_ ? reason_ : receive_failure_;
    bool answered = ended_ || receive_failure_;
    try {
      if (endpoint_) message = endpoint_->take_message();
    } catch (...) {
      failure = current_error();
      answered = true;
    }
    if (!message && !answered) return;
    const Deferred deferred = receives_.front();
    receives_.pop_front();
    if (message) {
      deferred.Resolve(bytes_to_js(env, *message));
    } else if (failure) {
      deferred.Reject(to_js_error(env, *failure).Value());
    } else {
      deferred.Resolve(env.Null());
    }
  }
}

void ConnectionBinding::handle_closed(Napi::Env env, std::optional<Error> reason) {
  ended_ = true;
  reason_ = std::move(reason);
  const Napi::Value error = end_error(env).Value();
  if (const auto deferred = std::exchange(handshake_, std::nullopt)) deferred->Reject(error);
  settle_receives(env);
  for (auto& [id, deferred] : sends_) deferred.Reject(error);
  for (auto& [id, deferred] : writes_) deferred.Reject(error);
  sends_.clear();
  writes_.clear();
  closed_->Resolve(reason_ ? error : env.Null());
  queue_->unref(env);
}

Napi::Error ConnectionBinding::end_error(Napi::Env env) const {
  if (reason_) return to_js_error(env, *reason_);
  return to_js_error(env, Error("CONNECTION_CLOSED", "the connection has ended"));
}

}  // namespace rdma_migrate::bindings
