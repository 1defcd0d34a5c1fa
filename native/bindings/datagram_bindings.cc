#include "bindings/datagram_bindings.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string>

#include "bindings/arguments.h"
#include "bindings/errors.h"
#include "error.h"
#include "fd.h"

namespace rdma_migrate::bindings {
namespace {

// The receiver may be busy, and this is JavaScript's thread.
constexpr timeval kLongest{.tv_sec = 0, .tv_usec = 250'000};

Error failed(const std::string& address, int reason) {
  const char* code = reason == EACCES || reason == EPERM ? "PERMISSION_DENIED" : "IO_ERROR";
  return Error(code, "a datagram to " + address + " could not be sent", reason);
}

// unix(7): a name of the abstract space begins with a zero byte and ends with the address' length.
socklen_t fill(sockaddr_un& to, const std::string& address) {
  const bool is_path = !address.empty() && address[0] == '/';
  const bool is_abstract = address.size() > 1 && address[0] == '@';
  const size_t most = sizeof to.sun_path - (is_path ? 1 : 0);
  if ((!is_path && !is_abstract) || address.size() > most || address.find('\0') != std::string::npos)
    throw Error("INVALID_ARGUMENT", "no socket has the address '" + address +
                                        "': it is an absolute path or @NAME, of 107 bytes at most");
  to.sun_family = AF_UNIX;
  std::memcpy(to.sun_path, address.data(), address.size());
  if (is_abstract) to.sun_path[0] = '\0';
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address.size() + (is_path ? 1 : 0));
}

void send(const std::string& address, const std::string& text) {
  sockaddr_un to{};
  const socklen_t length = fill(to, address);
  const UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (socket.get() < 0) throw failed(address, errno);
  if (setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &kLongest, sizeof kLongest) != 0)
    throw failed(address, errno);
  const auto* const receiver = reinterpret_cast<const sockaddr*>(&to);
  if (::sendto(socket.get(), text.data(), text.size(), MSG_NOSIGNAL, receiver, length) < 0)
    throw failed(address, errno);
}

Napi::Value send_datagram(const Napi::CallbackInfo& info) {
  const std::string address = to_text(info[0], "address");
  const std::string text = to_text(info[1], "text");
  return guarded(info.Env(), [&] {
    send(address, text);
    return info.Env().Undefined();
  });
}

}  // namespace

void init_datagram(Napi::Env env, Napi::Object exports) {
  exports.Set("sendDatagram", Napi::Function::New<send_datagram>(env, "sendDatagram"));
}

}  // namespace rdma_migrate::bindings
