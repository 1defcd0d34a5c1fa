// What a TCP socket needs to carry FPDUs.
#pragma once

#include <chrono>

namespace rdma_migrate::iwarp {

// stall_timeout: after that long a peer whose host is gone counts as gone.
void set_socket_options(int socket, std::chrono::milliseconds stall_timeout);

}  // namespace rdma_migrate::iwarp
