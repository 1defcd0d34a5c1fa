// What the kernel knows of a TCP connection.
#pragma once

#include <chrono>

namespace rdma_migrate::iwarp {

// How long, in all, the kernel had something for the peer that the peer had not acknowledged. It counts in
// ticks of its clock, 1 to 10 ms: right over many, not for one. 0: not known.
std::chrono::microseconds unacknowledged_time(int socket);

}  // namespace rdma_migrate::iwarp
