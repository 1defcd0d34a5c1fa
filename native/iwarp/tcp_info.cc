// <netinet/tcp.h> has a tcp_info of its own, which is too short: a file apart.
#include "iwarp/tcp_info.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstddef>

namespace rdma_migrate::iwarp {

std::chrono::microseconds unacknowledged_time(int socket) {
  tcp_info info{};
  socklen_t size = sizeof(info);
  if (getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return {};
  if (size < offsetof(tcp_info, tcpi_busy_time) + sizeof(info.tcpi_busy_time)) return {};
  return std::chrono::microseconds(info.tcpi_busy_time);
}

}  // namespace rdma_migrate::iwarp
