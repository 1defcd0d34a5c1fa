#include "bindings/tunnel_stream.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <utility>

#include "bindings/arguments.h"
#include "bindings/async.h"

namespace rdma_migrate::bindings {
namespace {

int descriptor(const Napi::Object& from, const char* name) {
  const uint32_t fd = u32_property(from, name);
  if (fd > INT32_MAX) throw bad_argument(from.Env(), name, "a file descriptor");
  return static_cast<int>(fd);
}

UniqueFd open_null() {
  UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null) throw Error("RESOURCE_LIMIT", "cannot open /dev/null", errno);
  return null;
}

// A stream has stdin and stdout to itself: what this process writes there later must not get into it, and
// its end is to be seen by who reads. Throws Error: RESOURCE_LIMIT.
void give_up_stdio(const UniqueFd& null) {
  for (const int fd : {0, 1}) {
    int given;
    do given = dup2(null.get(), fd);
    while (given < 0 && (errno == EINTR || errno == EBUSY));
    if (given < 0) throw Error("RESOURCE_LIMIT", "cannot give up stdin and stdout", errno);
  }
}

}  // namespace

Napi::Function TunnelStreamBinding::define(Napi::Env env) {
  return DefineClass(env, "NativeTunnelStream",
                     {
                         InstanceMethod<&TunnelStreamBinding::start>("start"),
                         InstanceMethod<&TunnelStreamBinding::reset>("reset"),
                         InstanceMethod<&TunnelStreamBinding::close>("close"),
                         InstanceAccessor<&TunnelStreamBinding::get_ring>("ring"),
                         InstanceAccessor<&TunnelStreamBinding::get_bytes_sent>("bytesSent"),
                         InstanceAccessor<&TunnelStreamBinding::get_bytes_received>("bytesReceived"),
                     });
}

// On a thread of the pool: a NIC pins the rings.
Napi::Value TunnelStreamBinding::create(Napi::Env env, const std::shared_ptr<Napi::FunctionReference>& type,
                                        std::shared_ptr<engine::Endpoint> endpoint, uint32_t ring_bytes) {
  return run_async(
      env, WorkLane::kRegister,
      [endpoint, ring_bytes] {
        if (!endpoint) throw Error("CONNECTION_CLOSED", "the connection has been closed");
        return std::make_shared<tunnel::Stream>(endpoint, ring_bytes);
      },
      [type](Napi::Env js, std::shared_ptr<tunnel::Stream> stream) -> Napi::Value {
        return type->New({Napi::External<std::shared_ptr<tunnel::Stream>>::New(js, &stream)});
      });
}

TunnelStreamBinding::TunnelStreamBinding(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<TunnelStreamBinding>(info) {
  if (info.Length() != 1 || !info[0].IsExternal()) {
    throw Napi::TypeError::New(info.Env(),
                               "NativeTunnelStream cannot be constructed: use createTunnelStream()");
  }
  stream_ = *info[0].As<Napi::External<std::shared_ptr<tunnel::Stream>>>().Data();
}

TunnelStreamBinding::~TunnelStreamBinding() {
  // Only at the environment's end, or never started: one that was holds a reference to itself.
  if (stream_) stream_->close();
  if (queue_) queue_->abandon();
}

Napi::Value TunnelStreamBinding::start(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto options = object_argument(info, 0, "options");
  const int in = descriptor(options, "in"), out = descriptor(options, "out");
  const tunnel::RemoteRing peer{u64_property(options, "address"), u32_property(options, "rkey"),
                                u32_property(options, "bytes")};
  const tunnel::StreamLimits limits{std::chrono::milliseconds(u32_property(options, "silenceMs")),
                                    std::chrono::milliseconds(u32_property(options, "aliveMs"))};
  const bool stdio = options.Get("stdio").ToBoolean();
  return guarded_promise(env, [&]() -> Napi::Value {
    if (!stream_ || ended_) throw Error("INVALID_ARGUMENT", "the stream has been started or closed already");
    auto sockets = std::make_unique<tunnel::SocketPair>(in, out);
    const UniqueFd null = stdio ? open_null() : UniqueFd();
    queue_ = std::make_shared<JsQueue>(env, "rdma-migrate tunnel");
    try {
      stream_->start(std::move(sockets), peer, limits, [this](const Error* reason) {
        queue_->post([this, reason = reason ? std::optional(*reason) : std::nullopt](Napi::Env js) {
          ended_->Resolve(reason ? to_js_error(js, *reason).Value() : js.Null());
          queue_->unref(js);
        });
      });
    } catch (...) {
      queue_->release();
      queue_.reset();
      throw;
    }
    Ref();
    ended_.emplace(env);
    try {
      if (stdio) give_up_stdio(null);
    } catch (const Error& error) {
      stream_->reset(error);
    }
    return ended_->Promise();
  });
}

void TunnelStreamBinding::reset(const Napi::CallbackInfo& info) {
  const std::string why = to_text(info[0], "reason");
  if (stream_) stream_->reset(Error("CANCELLED", why));
}

// On a thread of the pool: it waits for the stream's.
Napi::Value TunnelStreamBinding::close(const Napi::CallbackInfo& info) {
  auto stream = std::move(stream_);
  if (!stream) return info.Env().Undefined();
  const auto queue = queue_;
  Ref();
  return run_anyway(
      info.Env(), WorkLane::kClose, [stream] { stream->close(); },
      [this, stream, queue](Napi::Env env) -> Napi::Value {
        bytes_sent_ = stream->bytes_sent();
        bytes_received_ = stream->bytes_received();
        if (!queue) {
          Unref();
          return env.Undefined();
        }
        // After the end, which is in the queue by now.
        queue->post([this, queue](Napi::Env) {
          queue->release();
          Unref();
          Unref();
        });
        return env.Undefined();
      });
}

Napi::Value TunnelStreamBinding::get_ring(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  auto value = Napi::Object::New(env);
  if (!stream_) return value;
  const tunnel::RemoteRing ring = stream_->ring();
  value.Set("address", Napi::BigInt::New(env, ring.address));
  value.Set("rkey", ring.rkey);
  value.Set("bytes", ring.bytes);
  return value;
}

Napi::Value TunnelStreamBinding::get_bytes_sent(const Napi::CallbackInfo& info) {
  return Napi::BigInt::New(info.Env(), stream_ ? stream_->bytes_sent() : bytes_sent_);
}

Napi::Value TunnelStreamBinding::get_bytes_received(const Napi::CallbackInfo& info) {
  return Napi::BigInt::New(info.Env(), stream_ ? stream_->bytes_received() : bytes_received_);
}

}  // namespace rdma_migrate::bindings
