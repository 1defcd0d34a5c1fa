// Name look-up and TCP connects that end at a deadline or when close() asks.
#pragma once

#include "fabric/address.h"
#include "iwarp/handshake.h"

namespace rdma_migrate::iwarp {

// Waits until socket is ready for events. False: the deadline has passed. Throws Stopped.
bool wait_ready(int socket, short events, const Cancel& cancel);

// Tries all addresses of the endpoint, one after the other. Throws Stopped and Error: ADDRESS_NOT_FOUND,
// CONNECTION_REFUSED, CONNECTION_LOST, CONNECT_FAILED, TIMEOUT.
UniqueFd connect_tcp(const fabric::Endpoint& endpoint, const Cancel& cancel);

// No delay, and a dead peer is noticed within about stall_timeout.
void set_socket_options(int socket, std::chrono::milliseconds stall_timeout);

}  // namespace rdma_migrate::iwarp
