#include "bindings/verbs_queue_pair.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "bindings/arguments.h"
#include "bindings/async.h"
#include "bindings/listener_binding.h"
#include "bindings/options.h"

namespace rdma_migrate::bindings {
namespace {

// Arguments of the constructor, which Node-API can only call with JavaScript values.
struct Creation {
  std::shared_ptr<OpenDomain> domain;
  fabric::QueuePairOptions options;
  Napi::Function on_wake;
};

// A bound for memory, above what devices give (max_qp_wr).
constexpr uint32_t kMostWorkRequests = 65'536;

uint32_t queue_length(const Napi::Object& options, const char* name) {
  const uint32_t length = u32_property(options, name);
  if (length == 0 || length > kMostWorkRequests)
    throw bad_argument(options.Env(), name, "an integer from 1 to 65536");
  return length;
}

// Records count of them from first on, of a batch.
struct Batch {
  const uint8_t* at;
  size_t count;

  // A copy: another thread may change what lies in a SharedArrayBuffer.
  WorkRequestRecord operator[](size_t index) const {
    WorkRequestRecord record;
    std::memcpy(&record, at + index * sizeof record, sizeof record);
    return record;
  }
};

Batch batch_argument(const Napi::CallbackInfo& info) {
  const auto bytes = bytes_argument(info, 0, "records");
  const size_t there = bytes.size() / sizeof(WorkRequestRecord);
  const size_t first = u32_argument(info, 1, "first");
  const size_t count = u32_argument(info, 2, "count");
  if (first > there || count > there - first)
    throw bad_argument(info.Env(), "count", "records that lie in the batch");
  return {bytes.data() + first * sizeof(WorkRequestRecord), count};
}

fabric::SendWorkRequest to_send(const WorkRequestRecord& record) {
  if (record.opcode > static_cast<uint8_t>(fabric::Opcode::kRdmaRead))
    throw Error("INVALID_ARGUMENT", "the send queue takes SEND, RDMA_WRITE and RDMA_READ");
  return {record.wr_id, static_cast<fabric::Opcode>(record.opcode),
          record.addr,  record.length,
          record.lkey,  record.remote_addr,
          record.rkey,  (record.flags & WorkRequestRecord::kSignaled) != 0};
}

fabric::RecvWorkRequest to_recv(const WorkRequestRecord& record) {
  if (record.opcode != static_cast<uint8_t>(fabric::Opcode::kRecv))
    throw Error("INVALID_ARGUMENT", "the receive queue takes RECV");
  return {record.wr_id, record.addr, record.length, record.lkey};
}

// Whatever is thrown says how many requests of the batch were posted, as ibv_post_send's bad_wr does.
template <typename Post>
Napi::Value posting(Napi::Env env, Post&& post) {
  const auto failed = [env](const Error& error, size_t posted) {
    Napi::Error js = to_js_error(env, error);
    js.Set("posted", static_cast<double>(posted));
    return js;
  };
  try {
    return Napi::Number::New(env, static_cast<double>(post()));
  } catch (const fabric::BadWorkRequest& error) {
    throw failed(error, error.posted());
  } catch (...) {
    throw failed(current_error(), 0);
  }
}

template <typename Request>
void decode(const Batch& batch, size_t room, Request (*convert)(const WorkRequestRecord&),
            std::vector<Request>& out) {
  out.clear();
  const size_t count = std::min(batch.count, room);
  for (size_t index = 0; index < count; ++index) out.push_back(convert(batch[index]));
}

}  // namespace

Napi::Function VerbsQueuePairBinding::define(Napi::Env env) {
  return DefineClass(env, "NativeVerbsQueuePair",
                     {
                         InstanceMethod<&VerbsQueuePairBinding::connect>("connect"),
                         InstanceMethod<&VerbsQueuePairBinding::accept>("accept"),
                         InstanceMethod<&VerbsQueuePairBinding::post_send>("postSend"),
                         InstanceMethod<&VerbsQueuePairBinding::post_recv>("postRecv"),
                         InstanceMethod<&VerbsQueuePairBinding::poll>("poll"),
                         InstanceMethod<&VerbsQueuePairBinding::link_change>("linkChange"),
                         InstanceMethod<&VerbsQueuePairBinding::prepare_move>("prepareMove"),
                         InstanceMethod<&VerbsQueuePairBinding::announcement>("announcement"),
                         InstanceMethod<&VerbsQueuePairBinding::stop_for_move>("stopForMove"),
                         InstanceMethod<&VerbsQueuePairBinding::freeze>("freeze"),
                         InstanceMethod<&VerbsQueuePairBinding::abort_move>("abortMove"),
                         InstanceMethod<&VerbsQueuePairBinding::commit_move>("commitMove"),
                         InstanceMethod<&VerbsQueuePairBinding::expect>("expect"),
                         InstanceMethod<&VerbsQueuePairBinding::thaw>("thaw"),
                         InstanceMethod<&VerbsQueuePairBinding::take_over>("takeOver"),
                         InstanceMethod<&VerbsQueuePairBinding::disconnect>("disconnect"),
                         InstanceMethod<&VerbsQueuePairBinding::close>("close"),
                         InstanceMethod<&VerbsQueuePairBinding::counters>("counters"),
                         InstanceAccessor<&VerbsQueuePairBinding::get_state>("state"),
                         InstanceAccessor<&VerbsQueuePairBinding::get_info>("info"),
                         InstanceAccessor<&VerbsQueuePairBinding::get_closed>("closed"),
                     });
}

Napi::Object VerbsQueuePairBinding::create(Napi::Env env, const SharedVerbsClasses& classes,
                                           std::shared_ptr<OpenDomain> domain, Napi::Object from,
                                           Napi::Function on_wake) {
  fabric::QueuePairOptions options = queue_pair_options(from);
  options.max_send_wr = queue_length(from, "maxSendWr");
  options.max_recv_wr = queue_length(from, "maxRecvWr");
  options.movable = true;
  Creation creation{std::move(domain), options, on_wake};
  return classes->queue_pair.New({Napi::External<Creation>::New(env, &creation)});
}

VerbsQueuePairBinding::VerbsQueuePairBinding(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<VerbsQueuePairBinding>(info) {
  if (info.Length() != 1 || !info[0].IsExternal()) {
    throw Napi::TypeError::New(info.Env(),
                               "NativeVerbsQueuePair cannot be constructed: use createQueuePair()");
  }
  const auto* creation = info[0].As<Napi::External<Creation>>().Data();
  wake_ = Napi::Persistent(creation->on_wake);
  guarded(info.Env(), [&] { open(info.Env(), creation->domain, creation->options); });
}

void VerbsQueuePairBinding::open(Napi::Env env, const std::shared_ptr<OpenDomain>& domain,
                                 const fabric::QueuePairOptions& options) {
  completions_ = std::make_unique<VerbsCompletions>(options.max_send_wr, options.max_recv_wr);
  queue_ = std::make_shared<JsQueue>(env, "rdma-migrate queue pair");
  try {
    held_ = std::make_shared<Held>(Held{domain, nullptr});
    held_->queue_pair = domain->domain->create_queue_pair(options, *this);
    closed_.emplace(env);
    closed_promise_ = Napi::Persistent(closed_->Promise().As<Napi::Object>());
    Ref();
  } catch (...) {
    // This object is freed before the next task could run.
    held_.reset();
    queue_->abandon();
    throw;
  }
}

VerbsQueuePairBinding::~VerbsQueuePairBinding() {
  // Only at the environment's end: an open queue pair holds a reference to itself.
  if (!held_) return;
  held_->queue_pair->close();
  queue_->abandon();
}

fabric::QueuePair& VerbsQueuePairBinding::live() const {
  if (!held_) throw Error("CONNECTION_CLOSED", "the queue pair has been closed");
  return *held_->queue_pair;
}

Napi::Value VerbsQueuePairBinding::begin_handshake(Napi::Env env,
                                                   const std::function<void(fabric::QueuePair&)>& start) {
  return guarded_promise(env, [&]() -> Napi::Value {
    if (handshake_begun_)
      throw Error("INVALID_ARGUMENT", "the handshake of this queue pair has begun already");
    if (ended_) throw end_error(env);
    start(live());
    handshake_begun_ = true;
    handshake_.emplace(env);
    return handshake_->Promise();
  });
}

Napi::Value VerbsQueuePairBinding::connect(const Napi::CallbackInfo& info) {
  const auto address = endpoint(object_argument(info, 0, "endpoint"));
  const auto data = bytes_argument(info, 1, "privateData");
  return begin_handshake(info.Env(),
                         [&](fabric::QueuePair& queue_pair) { queue_pair.connect(address, data); });
}

Napi::Value VerbsQueuePairBinding::accept(const Napi::CallbackInfo& info) {
  const auto data = bytes_argument(info, 1, "privateData");
  const bool may_send_at_once = info[2].ToBoolean();
  return guarded_promise(info.Env(), [&] {
    // Whatever comes of it: what is not accepted is rejected when it goes.
    auto request = RequestBinding::take_from_js(info[0]);
    return begin_handshake(info.Env(), [&](fabric::QueuePair& queue_pair) {
      queue_pair.accept(std::move(request), data, may_send_at_once);
    });
  });
}

Napi::Value VerbsQueuePairBinding::post_send(const Napi::CallbackInfo& info) {
  const Batch batch = batch_argument(info);
  return posting(info.Env(), [&] {
    fabric::QueuePair& queue_pair = live();
    decode(batch, completions_->send_room(), to_send, sends_);
    return queue_pair.post_send(std::span(sends_));
  });
}

Napi::Value VerbsQueuePairBinding::post_recv(const Napi::CallbackInfo& info) {
  const Batch batch = batch_argument(info);
  return posting(info.Env(), [&] {
    fabric::QueuePair& queue_pair = live();
    decode(batch, completions_->recv_room(), to_recv, recvs_);
    return queue_pair.post_recv(std::span(recvs_));
  });
}

Napi::Value VerbsQueuePairBinding::poll(const Napi::CallbackInfo& info) {
  const auto bytes = bytes_argument(info, 0, "records");
  if (bytes.size() < sizeof(CompletionRecord))
    throw bad_argument(info.Env(), "records", "room for a completion, not detached");
  const size_t count =
      completions_->poll({const_cast<uint8_t*>(bytes.data()), bytes.size()}, info[1].ToBoolean());
  if (count == 0 && completions_->exhausted()) return Napi::Number::New(info.Env(), -1);
  return Napi::Number::New(info.Env(), static_cast<double>(count));
}

Napi::Value VerbsQueuePairBinding::link_change(const Napi::CallbackInfo& info) {
  return link_changes_.next(info.Env());
}

void VerbsQueuePairBinding::disconnect(const Napi::CallbackInfo&) {
  if (held_ && !ended_) held_->queue_pair->disconnect();
}

Napi::Value VerbsQueuePairBinding::close(const Napi::CallbackInfo& info) {
  if (!close_promise_.IsEmpty()) return close_promise_.Value();
  const auto held = held_;
  const auto queue = queue_;
  const Napi::Promise promise = run_anyway(
      info.Env(), WorkLane::kClose, [held] { held->queue_pair->close(); },
      [this, queue](Napi::Env env) -> Napi::Value {
        // After the end, which is in the queue by now.
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

VerbsQueuePairBinding::Counts VerbsQueuePairBinding::counts_of(const fabric::QueuePair& queue_pair) {
  const auto& counters = queue_pair.counters();
  return {counters.bytes_sent,       counters.bytes_received, counters.write_bytes_placed,
          counters.payload_received, counters.resumes,        counters.payload_resent};
}

// The queues go now and not when V8, which does not know their size, collects this object.
void VerbsQueuePairBinding::let_go() {
  last_info_ = held_->queue_pair->info();
  last_counts_ = counts_of(*held_->queue_pair);
  held_.reset();
  wake_.Reset();  // it holds the object that holds this one
}

Napi::Value VerbsQueuePairBinding::counters(const Napi::CallbackInfo& info) {
  const Counts counts = held_ ? counts_of(*held_->queue_pair) : last_counts_;
  auto value = Napi::Object::New(info.Env());
  value.Set("bytesSent", Napi::BigInt::New(info.Env(), counts.bytes_sent));
  value.Set("bytesReceived", Napi::BigInt::New(info.Env(), counts.bytes_received));
  value.Set("writeBytesPlaced", Napi::BigInt::New(info.Env(), counts.write_bytes_placed));
  value.Set("payloadReceived", Napi::BigInt::New(info.Env(), counts.payload_received));
  value.Set("resumes", Napi::Number::New(info.Env(), static_cast<double>(counts.resumes)));
  value.Set("payloadResent", Napi::BigInt::New(info.Env(), counts.payload_resent));
  return value;
}

Napi::Value VerbsQueuePairBinding::get_state(const Napi::CallbackInfo& info) {
  const auto state = held_ ? held_->queue_pair->state() : fabric::QueuePairState::kError;
  return Napi::String::New(info.Env(), fabric::to_string(state));
}

Napi::Value VerbsQueuePairBinding::get_info(const Napi::CallbackInfo& info) {
  const auto facts = held_ ? held_->queue_pair->info() : last_info_;
  auto value = Napi::Object::New(info.Env());
  value.Set("provider", facts.provider);
  value.Set("localAddress", facts.local_address);
  value.Set("peerAddress", facts.peer_address);
  value.Set("detail", facts.detail);
  value.Set("crc", facts.crc);
  value.Set("resumable", facts.resumable);
  return value;
}

Napi::Value VerbsQueuePairBinding::get_closed(const Napi::CallbackInfo&) { return closed_promise_.Value(); }

void VerbsQueuePairBinding::on_established(std::span<const uint8_t> private_data) {
  queue_->post([this, data = fabric::Bytes(private_data.begin(), private_data.end())](Napi::Env env) {
    if (const auto deferred = std::exchange(handshake_, std::nullopt))
      deferred->Resolve(Napi::Buffer<uint8_t>::Copy(env, data.data(), data.size()));
  });
}

void VerbsQueuePairBinding::push(std::span<const fabric::Completion> completions) {
  if (completions_->push(completions)) queue_->post([this](Napi::Env) { wake_.Call({}); });
}

void VerbsQueuePairBinding::link_changed(std::optional<Error> lost) {
  queue_->post([this, change = LinkChanges::Change{1, std::move(lost)}](Napi::Env env) {
    link_changes_.push(env, change);
  });
}

void VerbsQueuePairBinding::on_closed(const Error* reason) {
  completions_->end();
  queue_->post([this, reason = reason ? std::optional(*reason) : std::nullopt](Napi::Env env) {
    handle_closed(env, reason);
  });
}

void VerbsQueuePairBinding::handle_closed(Napi::Env env, const std::optional<Error>& reason) {
  ended_ = true;
  reason_ = reason;
  const Napi::Value error = end_error(env).Value();
  if (const auto deferred = std::exchange(handshake_, std::nullopt)) deferred->Reject(error);
  for (const auto& [step, deferred] : std::exchange(steps_, {})) deferred.Reject(error);
  closed_->Resolve(reason_ ? error : env.Null());
  link_changes_.end(env);
  queue_->unref(env);
  wake_.Call({});
}

Napi::Error VerbsQueuePairBinding::end_error(Napi::Env env) const {
  if (reason_) return to_js_error(env, *reason_);
  return to_js_error(env, Error("CONNECTION_CLOSED", "the queue pair has ended"));
}

}  // namespace rdma_migrate::bindings
