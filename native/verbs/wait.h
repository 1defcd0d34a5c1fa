// Waiting with a deadline, for whoever asks this machine's devices outside of a connection.
#pragma once

#include <vector>

#include "fabric/address.h"
#include "fabric/device_provider.h"
#include "verbs/cm_id.h"

namespace rdma_migrate::verbs {

// For poll() and rdma_cm, rounded up so that a wait does not end before its deadline and spin.
int poll_timeout(Clock::time_point deadline);

// False: the deadline has passed. Throws Error: INTERNAL.
bool wait_readable(int fd, Clock::time_point deadline);

// The endpoint's addresses. Throws Error: ADDRESS_NOT_FOUND, TIMEOUT, RESOURCE_LIMIT.
std::vector<fabric::SocketAddress> look_up(const fabric::Endpoint& endpoint, fabric::Direction direction,
                                           Clock::time_point deadline);

// Nobody found the host's addresses in time.
Error lookup_timeout(const std::string& host);

}  // namespace rdma_migrate::verbs
