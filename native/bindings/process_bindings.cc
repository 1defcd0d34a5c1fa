#include "bindings/process_bindings.h"

#include <sys/socket.h>

#include <cerrno>
#include <string>

#include "bindings/arguments.h"
#include "bindings/errors.h"

namespace rdma_migrate::bindings {
namespace {

// unix(7), SO_PEERCRED: who called listen(), as it was then.
Napi::Value peer_process(const Napi::CallbackInfo& info) {
  const uint32_t fd = u32_argument(info, 0, "fd");
  ucred peer{};
  socklen_t length = sizeof peer;
  if (fd > INT32_MAX || getsockopt(static_cast<int>(fd), SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0)
    throw Error("IO_ERROR", "descriptor " + std::to_string(fd) + " is no unix socket with a peer");
  return Napi::Number::New(info.Env(), peer.pid);
}

}  // namespace

void init_processes(Napi::Env env, Napi::Object exports) {
  const auto body = [](const Napi::CallbackInfo& info) -> Napi::Value {
    return guarded(info.Env(), [&] { return peer_process(info); });
  };
  exports.Set("peerProcess", Napi::Function::New(env, body, "peerProcess"));
}

}  // namespace rdma_migrate::bindings
