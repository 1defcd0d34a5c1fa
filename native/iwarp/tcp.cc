#include "iwarp/tcp.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>

namespace rdma_migrate::iwarp {
namespace {

// Data that waits unsent in the kernel falls out of the CPU's caches before the receiver reads it: without a
// limit the receiver of a loopback transfer takes more CPU time for a GiB. 64 to 256 KiB are alike. Data in
// flight is not limited by it.
constexpr int kUnsentBytes = 128 * 1024;

}  // namespace

void set_socket_options(int socket, std::chrono::milliseconds stall_timeout) {
  const auto set = [socket](int level, int name, int value) {
    setsockopt(socket, level, name, &value, sizeof value);
  };
  constexpr int kProbes = 3;
  const auto third = static_cast<int>(std::clamp<int64_t>(stall_timeout.count() / 1000 / kProbes, 1, 3600));
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(IPPROTO_TCP, TCP_NOTSENT_LOWAT, kUnsentBytes);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, third);
  set(IPPROTO_TCP, TCP_KEEPINTVL, std::max(1, third / kProbes));
  set(IPPROTO_TCP, TCP_KEEPCNT, kProbes);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(stall_timeout.count()));
}

}  // namespace rdma_migrate::iwarp
