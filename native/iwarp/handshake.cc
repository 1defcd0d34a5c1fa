#include "iwarp/handshake.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>

#include "iwarp/tcp.h"

namespace rdma_migrate::iwarp {
namespace {

// What a peer that has not said its limit surely takes.
constexpr size_t kUnsaidReadDepth = 2;

Error no_answer(const std::string& peer) {
  return Error("TIMEOUT", peer +
                              " accepted the TCP connection but did not complete the MPA handshake in time; "
                              "check that it speaks iWARP");
}

void receive_exactly(int socket, std::span<uint8_t> bytes, const Cancel& cancel, const std::string& peer) {
  while (!bytes.empty()) {
    ssize_t got = recv(socket, bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (got > 0) {
      bytes = bytes.subspan(static_cast<size_t>(got));
    } else if (got == 0) {
      throw Error(
          "CONNECTION_LOST",
          peer + " closed the connection instead of answering; check that it speaks iWARP and see its log");
    } else if (errno != EAGAIN && errno != EINTR) {
      throw Error("CONNECTION_LOST", "the connection to " + peer + " broke before the peer had answered",
                  errno);
    } else if (!wait_ready(socket, POLLIN, cancel)) {
      throw no_answer(peer);
    }
  }
}

// Exactly the reply: FPDUs may follow it at once and belong to the receiver.
MpaFrame receive_reply(int socket, const Cancel& cancel, const std::string& peer) {
  fabric::Bytes bytes(kMpaHeaderSize);
  receive_exactly(socket, bytes, cancel, peer);
  try {
    size_t body = mpa_body_size(std::span<const uint8_t, kMpaHeaderSize>(bytes.data(), kMpaHeaderSize),
                                MpaKind::kReply);
    bytes.resize(kMpaHeaderSize + body);
    receive_exactly(socket, std::span(bytes).subspan(kMpaHeaderSize), cancel, peer);
    return decode_mpa(bytes, MpaKind::kReply);
  } catch (const Error& error) {
    if (error.code() != "MPA_ERROR") throw;
    throw Error("MPA_ERROR", std::string(error.what()) + " (from " + peer + ")");
  }
}

std::string hex_of(const fabric::Bytes& bytes) {
  static const char digits[] = "0123456789abcdef";
  std::string text;
  for (uint8_t byte : bytes) {
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
  return text;
}

void check_reply(const MpaFrame& request, const MpaFrame& reply, const std::string& peer) {
  if (reply.reject) {
    std::string data = reply.private_data.empty() ? "" : ": " + hex_of(reply.private_data);
    throw Error("REJECTED", peer + " rejected the connection, with " +
                                std::to_string(reply.private_data.size()) + " bytes of private data" + data +
                                "; see its log for the reason");
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

// A peer that knows revision 1 only may refuse revision 2 instead of answering in its own.
bool worth_older_revision(const MpaFrame& request, const MpaFrame& reply) {
  return reply.reject && reply.private_data.empty() && reply.revision < request.revision;
}

}  // namespace

MpaFrame make_request(const fabric::ConnectionOptions& options, std::span<const uint8_t> private_data,
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

MpaFrame make_reply(const MpaFrame& request, const fabric::ConnectionOptions& options,
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

Negotiated initiate(const fabric::Endpoint& endpoint, const fabric::ConnectionOptions& options,
                    std::span<const uint8_t> private_data, const Cancel& cancel, UniqueFd& socket) {
  for (uint8_t revision = 2;; --revision) {
    socket = connect_tcp(endpoint, cancel);
    set_socket_options(socket.get(), std::chrono::milliseconds(options.stall_timeout_ms));
    std::string peer = fabric::to_string(endpoint);
    MpaFrame request = make_request(options, private_data, revision);
    send_all(socket.get(), encode(request), cancel, peer);
    MpaFrame reply = receive_reply(socket.get(), cancel, peer);
    if (worth_older_revision(request, reply)) continue;
    check_reply(request, reply, peer);
    return negotiated_by_initiator(request, reply);
  }
}

void send_all(int socket, std::span<const uint8_t> bytes, const Cancel& cancel, const std::string& peer) {
  while (!bytes.empty()) {
    ssize_t sent = send(socket, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) {
      bytes = bytes.subspan(static_cast<size_t>(sent));
    } else if (errno != EAGAIN && errno != EINTR) {
      throw Error("CONNECTION_LOST", "the connection to " + peer + " broke during the handshake", errno);
    } else if (!wait_ready(socket, POLLOUT, cancel)) {
      throw no_answer(peer);
    }
  }
}

}  // namespace rdma_migrate::iwarp
