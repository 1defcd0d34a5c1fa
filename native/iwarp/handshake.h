// What MPA's connection setup frames ask for, and what follows of a request and its answer. Pure.
#pragma once

#include <span>
#include <string>

#include "fabric/fabric.h"
#include "iwarp/mpa.h"

namespace rdma_migrate::iwarp {

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

MpaFrame make_request(const fabric::QueuePairOptions& options, std::span<const uint8_t> private_data,
                      uint8_t revision);
MpaFrame make_reply(const MpaFrame& request, const fabric::QueuePairOptions& options,
                    std::span<const uint8_t> private_data, bool reject);
Negotiated negotiated_by_responder(const MpaFrame& request, const MpaFrame& reply);
Negotiated negotiated_by_initiator(const MpaFrame& request, const MpaFrame& reply);

// Throws Error: REJECTED, MPA_ERROR.
void check_reply(const MpaFrame& request, const MpaFrame& reply, const std::string& peer);
// A peer that knows revision 1 only may refuse revision 2 instead of answering in its own.
bool worth_older_revision(const MpaFrame& request, const MpaFrame& reply);

}  // namespace rdma_migrate::iwarp
