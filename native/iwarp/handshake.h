// From a name to a connection on which FPDUs may flow: look-up, TCP, MPA. All of it blocks, on the
// connection's own thread, and gives up at the deadline or when close() asks.
#pragma once

#include <span>
#include <string>

#include "fabric/fabric.h"
#include "iwarp/link.h"
#include "iwarp/mpa.h"

namespace rdma_migrate::iwarp {

struct Cancel {
  WakeEvent& wake;
  const std::atomic<bool>& stopping;
  Clock::time_point deadline;
};

struct Negotiated {
  uint8_t revision = 2;
  bool crc = false;
  size_t ird = 0;             // READs of the peer's at a time
  size_t ord = 0;             // READs of ours at a time
  bool awaits_ready = false;  // the peer sends a ready-to-receive message first
  fabric::Bytes private_data;
};

// READs at a time that we offer and take.
constexpr uint16_t kReadDepth = 16;

// What follows of a request and the answer to it, for the side that answers.
MpaFrame make_request(const fabric::ConnectionOptions& options, std::span<const uint8_t> private_data,
                      uint8_t revision);
MpaFrame make_reply(const MpaFrame& request, const fabric::ConnectionOptions& options,
                    std::span<const uint8_t> private_data, bool reject);
Negotiated negotiated_by_responder(const MpaFrame& request, const MpaFrame& reply);
Negotiated negotiated_by_initiator(const MpaFrame& request, const MpaFrame& reply);

// Connects and asks. Throws Stopped and Error: ADDRESS_NOT_FOUND, CONNECTION_REFUSED, CONNECT_FAILED,
// TIMEOUT, REJECTED, MPA_ERROR, CONNECTION_LOST.
Negotiated initiate(const fabric::Endpoint& endpoint, const fabric::ConnectionOptions& options,
                    std::span<const uint8_t> private_data, const Cancel& cancel, UniqueFd& socket);

// Sends all of bytes. Throws Stopped and Error: TIMEOUT, CONNECTION_LOST.
void send_all(int socket, std::span<const uint8_t> bytes, const Cancel& cancel, const std::string& peer);

}  // namespace rdma_migrate::iwarp
