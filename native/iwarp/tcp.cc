#include "iwarp/tcp.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <thread>

#include "iwarp/wait.h"
#include "thread.h"

namespace rdma_migrate::iwarp {
namespace {

// Data that waits unsent in the kernel falls out of the CPU's caches before it is read again: 128 KiB made a
// loopback transfer 1.2 times as fast as no limit, 256 KiB and more did not. Data in flight is not limited by
// it.
constexpr int kUnsentBytes = 128 * 1024;

using fabric::Endpoint;
using fabric::SocketAddress;

// A resolver may hang for longer than anybody waits: its thread is left alone with what it needs.
struct Resolution {
  Endpoint endpoint;
  WakeEvent finished;
  std::mutex mutex;
  std::vector<SocketAddress> addresses;
  std::optional<Error> error;
};

void run_resolution(const std::shared_ptr<Resolution>& resolution) {
  std::vector<SocketAddress> addresses;
  std::optional<Error> error;
  try {
    addresses = fabric::resolve(resolution->endpoint, fabric::Lookup::kActive);
  } catch (const Error& caught) {
    error = caught;
  }
  std::lock_guard lock(resolution->mutex);
  resolution->addresses = std::move(addresses);
  resolution->error = std::move(error);
  resolution->finished.signal();
}

std::vector<SocketAddress> resolve_cancellable(const Endpoint& endpoint, const Cancel& cancel) {
  std::vector<SocketAddress> numeric = fabric::resolve(endpoint, fabric::Lookup::kNumericOnly);
  if (!numeric.empty()) return numeric;
  auto resolution = std::make_shared<Resolution>();
  resolution->endpoint = endpoint;
  start_thread([resolution] { run_resolution(resolution); }).detach();
  if (!wait_ready(resolution->finished.fd(), POLLIN, cancel)) {
    throw Error("TIMEOUT",
                "the name service did not find '" + endpoint.host + "' in time; try a numeric address");
  }
  std::lock_guard lock(resolution->mutex);
  if (resolution->error) throw *resolution->error;
  return resolution->addresses;
}

Error connect_error(const std::string& peer, int error_number) {
  switch (error_number) {
    case ECONNREFUSED:
      return Error("CONNECTION_REFUSED",
                   "nothing listens on " + peer + "; start the receiving side first and check the port",
                   error_number);
    case ETIMEDOUT:
      return Error("TIMEOUT", peer + " did not answer; check the address and the firewalls on the way",
                   error_number);
    case ECONNRESET:
      return Error("CONNECTION_LOST", peer + " took the connection and reset it at once; its log may say why",
                   error_number);
    case EMFILE:
    case ENFILE:
      return Error("RESOURCE_LIMIT", "no descriptor is left to connect to " + peer + " (ulimit -n)",
                   error_number);
    default:
      return Error("CONNECT_FAILED",
                   "cannot connect to " + peer + "; check the address, routes and firewalls", error_number);
  }
}

UniqueFd connect_one(const SocketAddress& address, const Cancel& cancel) {
  std::string peer = fabric::to_string(address);
  UniqueFd socket(::socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) throw connect_error(peer, errno);
  if (connect(socket.get(), address.get(), address.length) == 0) return socket;
  if (errno != EINPROGRESS) throw connect_error(peer, errno);
  if (!wait_ready(socket.get(), POLLOUT, cancel)) throw connect_error(peer, ETIMEDOUT);
  int error_number = 0;
  socklen_t size = sizeof error_number;
  getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error_number, &size);
  if (error_number != 0) throw connect_error(peer, error_number);
  return socket;
}

}  // namespace

bool wait_ready(int socket, short events, const Cancel& cancel) {
  for (;;) {
    Waited waited = wait_for(socket, events, cancel.wake, cancel.stopping, cancel.deadline);
    if (waited != Waited::kWoken) return waited == Waited::kReady;
  }
}

UniqueFd connect_tcp(const Endpoint& endpoint, const Cancel& cancel) {
  std::vector<SocketAddress> addresses = resolve_cancellable(endpoint, cancel);
  return fabric::open_first(addresses, [&](const SocketAddress& address, size_t left) {
    return connect_one(address, {cancel.wake, cancel.stopping, fabric::share_of_time(cancel.deadline, left)});
  });
}

void set_socket_options(int socket, std::chrono::milliseconds stall_timeout) {
  auto set = [socket](int level, int name, int value) {
    setsockopt(socket, level, name, &value, sizeof value);
  };
  constexpr int kProbes = 3;
  auto third = static_cast<int>(std::clamp<int64_t>(stall_timeout.count() / 1000 / kProbes, 1, 3600));
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(IPPROTO_TCP, TCP_NOTSENT_LOWAT, kUnsentBytes);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, third);
  set(IPPROTO_TCP, TCP_KEEPINTVL, std::max(1, third / kProbes));
  set(IPPROTO_TCP, TCP_KEEPCNT, kProbes);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(stall_timeout.count()));
}

}  // namespace rdma_migrate::iwarp
