#include "iwarp/handshake.h"

#include <algorithm>

#include "fabric/hex.h"

namespace rdma_migrate::iwarp {
namespace {

// What a peer that has not said its limit surely takes.
constexpr size_t kUnsaidReadDepth = 2;

}  // namespace

MpaFrame make_request(const fabric::QueuePairOptions& options, std::span<const uint8_t> private_data,
                      uint8_t revision) {
  MpaFrame frame;
  frame.kind = MpaKind::kRequest;
  frame.revision = revision;
  frame.crc = options.crc;
  frame.enhanced = revision >= 2;
  frame.ird = frame.ord = kReadDepth;
  frame.private_data.assign(private_data.begin(), private_data.end());
  return frame;
}

MpaFrame make_reply(const MpaFrame& request, const fabric::QueuePairOptions& options,
                    std::span<const uint8_t> private_data, bool reject) {
  MpaFrame frame;
  frame.kind = MpaKind::kReply;
  frame.revision = request.revision;
  frame.crc = request.crc || options.crc;
  frame.reject = reject;
  frame.enhanced = request.enhanced;
  frame.ird = std::min(request.ord, kReadDepth);
  frame.ord = std::min(request.ird, kReadDepth);
  frame.peer_to_peer = request.peer_to_peer && request.any_rtr();
  frame.rtr_send = frame.peer_to_peer && request.rtr_send;
  frame.rtr_write = frame.peer_to_peer && request.rtr_write;
  frame.rtr_read = frame.peer_to_peer && request.rtr_read;
  frame.private_data.assign(private_data.begin(), private_data.end());
  return frame;
}

Negotiated negotiated_by_responder(const MpaFrame& request, const MpaFrame& reply) {
  Negotiated result;
  result.revision = reply.revision;
  result.crc = request.crc || reply.crc;
  result.ird = reply.enhanced ? reply.ird : kReadDepth;
  result.ord = reply.enhanced ? reply.ord : kUnsaidReadDepth;
  // A ready-to-receive READ is one the peer may always send.
  if (reply.rtr_read) result.ird = std::max<size_t>(result.ird, 1);
  result.awaits_ready = reply.peer_to_peer;
  result.private_data = request.private_data;
  return result;
}

Negotiated negotiated_by_initiator(const MpaFrame& request, const MpaFrame& reply) {
  Negotiated result;
  result.revision = reply.revision;
  result.crc = request.crc || reply.crc;
  result.ird = kReadDepth;
  result.ord = reply.enhanced ? std::min(reply.ird, kReadDepth) : kUnsaidReadDepth;
  result.private_data = reply.private_data;
  return result;
}

void check_reply(const MpaFrame& request, const MpaFrame& reply, const std::string& peer) {
  if (reply.reject) {
    std::string data = reply.private_data.empty() ? "" : ": " + fabric::hex_of(reply.private_data);
    throw Error("REJECTED", peer + " rejected the connection, with " +
                                std::to_string(reply.private_data.size()) + " bytes of private data" + data +
                                "; see its log for the reason")
        .with_private_data(reply.private_data);
  }
  if (reply.markers) {
    throw Error("MPA_ERROR",
                peer + " demands MPA markers, which are not supported; turn markers off at the peer");
  }
  if (reply.revision > request.revision) {
    throw Error("MPA_ERROR", peer + " answered MPA revision " + std::to_string(request.revision) +
                                 " with revision " + std::to_string(reply.revision));
  }
}

bool worth_older_revision(const MpaFrame& request, const MpaFrame& reply) {
  return reply.reject && reply.private_data.empty() && reply.revision < request.revision;
}

}  // namespace rdma_migrate::iwarp
