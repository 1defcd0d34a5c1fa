// A TCP peer that writes any bytes it likes: the hostile or merely different other end of an iWARP
// connection.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <stdexcept>
#include <thread>

#include "fabric/fabric.h"
#include "iwarp/crc32c.h"
#include "iwarp/ddp.h"
#include "iwarp/mpa.h"
#include "iwarp/terminate.h"

namespace rdma_migrate::test {

using fabric::Bytes;

inline Bytes operator+(Bytes left, const Bytes& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

// A whole FPDU with a right CRC.
inline Bytes fpdu(const iwarp::DdpHeader& header, const Bytes& payload) {
  Bytes bytes(iwarp::kMaxHeaderSize);
  bytes.resize(iwarp::encode_fpdu_header(header, payload.size(), bytes.data()));
  bytes = bytes + payload;
  bytes.resize((bytes.size() + 3) / 4 * 4);
  uint32_t crc = iwarp::crc32c(bytes);
  bytes.resize(bytes.size() + 4);
  iwarp::store_crc(bytes.data() + bytes.size() - 4, crc);
  return bytes;
}

inline iwarp::DdpHeader send_header(uint32_t msn, bool last = true, uint32_t offset = 0) {
  iwarp::DdpHeader header;
  header.last = last;
  header.opcode = static_cast<uint8_t>(iwarp::RdmapOpcode::kSend);
  header.msn = msn;
  header.message_offset = offset;
  return header;
}

inline iwarp::DdpHeader write_header(uint32_t stag, uint64_t offset, bool last = true) {
  iwarp::DdpHeader header;
  header.tagged = true;
  header.last = last;
  header.opcode = static_cast<uint8_t>(iwarp::RdmapOpcode::kWrite);
  header.stag = stag;
  header.target_offset = offset;
  return header;
}

inline iwarp::DdpHeader read_header(uint32_t msn) {
  iwarp::DdpHeader header = send_header(msn);
  header.opcode = static_cast<uint8_t>(iwarp::RdmapOpcode::kReadRequest);
  header.queue = static_cast<uint32_t>(iwarp::DdpQueue::kReadRequest);
  return header;
}

inline Bytes read_payload(const iwarp::ReadRequest& request) {
  Bytes bytes(iwarp::kReadRequestSize);
  iwarp::encode_read_request(request, bytes.data());
  return bytes;
}

class RawPeer {
 public:
  explicit RawPeer(int fd) : fd_(fd) { set_no_delay(); }
  // segment: the longest TCP segment that it takes; 0: as long as the path allows.
  explicit RawPeer(const fabric::Endpoint& endpoint, int segment = 0) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    if (segment != 0) setsockopt(fd_, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(endpoint.port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
      throw std::runtime_error("connect failed");
    set_no_delay();
  }
  RawPeer(RawPeer&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  RawPeer(const RawPeer&) = delete;
  ~RawPeer() { close(); }

  void send(const Bytes& bytes) {
    // A peer that has given up is no failure of the test: what it said before is.
    for (size_t at = 0; at < bytes.size();) {
      ssize_t sent = ::send(fd_, bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
      if (sent <= 0) return;
      at += static_cast<size_t>(sent);
    }
  }
  // Split into pieces that arrive one by one.
  void send_in_pieces(const Bytes& bytes, size_t piece, std::chrono::microseconds pause) {
    for (size_t at = 0; at < bytes.size(); at += piece) {
      send(Bytes(bytes.begin() + static_cast<ptrdiff_t>(at),
                 bytes.begin() + static_cast<ptrdiff_t>(std::min(at + piece, bytes.size()))));
      std::this_thread::sleep_for(pause);
    }
  }
  // Exactly size bytes, or fewer at the end of the stream.
  Bytes receive(size_t size) {
    Bytes bytes(size);
    size_t at = 0;
    while (at < size) {
      pollfd entry{fd_, POLLIN, 0};
      if (poll(&entry, 1, 30'000) <= 0) throw std::runtime_error("the other end says nothing");
      ssize_t got = recv(fd_, bytes.data() + at, size - at, 0);
      if (got <= 0) break;
      at += static_cast<size_t>(got);
    }
    bytes.resize(at);
    return bytes;
  }
  bool at_end() { return receive(1).empty(); }
  // Whether the other end says something, or ends the stream, within that many milliseconds.
  bool hears_within(int milliseconds) {
    pollfd entry{fd_, POLLIN, 0};
    return poll(&entry, 1, milliseconds) > 0;
  }
  // What is left of the stream, thrown away, ends in a reset.
  bool ends_in_reset() {
    uint8_t scrap[4096];
    for (;;) {
      pollfd entry{fd_, POLLIN, 0};
      if (poll(&entry, 1, 30'000) <= 0) throw std::runtime_error("the other end says nothing");
      const ssize_t got = recv(fd_, scrap, sizeof scrap, 0);
      if (got <= 0) return got < 0 && errno == ECONNRESET;
    }
  }

  iwarp::MpaFrame receive_mpa(iwarp::MpaKind kind) {
    Bytes bytes = receive(iwarp::kMpaHeaderSize);
    if (bytes.size() < iwarp::kMpaHeaderSize) throw std::runtime_error("closed instead of an MPA frame");
    bytes = bytes + receive(iwarp::mpa_body_size(std::span(bytes).first<iwarp::kMpaHeaderSize>(), kind));
    return iwarp::decode_mpa(bytes, kind);
  }
  struct Fpdu {
    iwarp::DdpHeader header;
    Bytes payload;
    bool crc_good = false;
  };
  // Throws at the end of the stream.
  Fpdu receive_fpdu() {
    Bytes bytes = receive(2);
    if (bytes.size() < 2) throw std::runtime_error("closed instead of an FPDU");
    size_t ulpdu = static_cast<size_t>(bytes[0] << 8 | bytes[1]);
    bytes = bytes + receive(iwarp::fpdu_size(ulpdu) - 2);
    if (bytes.size() < iwarp::fpdu_size(ulpdu)) throw std::runtime_error("closed in the middle of an FPDU");
    Fpdu result;
    result.header = iwarp::decode_ddp(bytes.data() + 2);
    size_t header_end = 2 + iwarp::ddp_header_size(result.header.tagged);
    result.payload.assign(bytes.begin() + static_cast<ptrdiff_t>(header_end),
                          bytes.begin() + static_cast<ptrdiff_t>(2 + ulpdu));
    uint32_t crc = iwarp::crc32c(std::span(bytes).first(bytes.size() - 4));
    result.crc_good = crc == iwarp::load_crc(bytes.data() + bytes.size() - 4);
    return result;
  }
  // The code of the TERMINATE that must be the next message.
  // After what a resumable queue pair may have said before it.
  iwarp::TerminateCode receive_terminate() {
    do {
      terminate = receive_fpdu();
    } while (terminate.header.opcode == static_cast<uint8_t>(iwarp::RdmapOpcode::kControl));
    if (terminate.header.opcode != static_cast<uint8_t>(iwarp::RdmapOpcode::kTerminate) ||
        terminate.header.queue != 2) {
      throw std::runtime_error("not a TERMINATE");
    }
    return iwarp::decode_terminate(terminate.payload);
  }
  Fpdu terminate;

  void finish() { shutdown(fd_, SHUT_WR); }
  void reset() {
    linger hard{1, 0};
    setsockopt(fd_, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close();
  }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

 private:
  void set_no_delay() {
    int on = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  int fd_;
};

// A listening socket for tests of the active side.
class RawListener {
 public:
  RawListener() : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || listen(fd_, 8) != 0) {
      throw std::runtime_error("listen failed");
    }
  }
  ~RawListener() { ::close(fd_); }
  fabric::Endpoint endpoint() const {
    sockaddr_in address{};
    socklen_t size = sizeof address;
    getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    return {"127.0.0.1", ntohs(address.sin_port)};
  }
  RawPeer accept() {
    pollfd entry{fd_, POLLIN, 0};
    if (poll(&entry, 1, 30'000) <= 0) throw std::runtime_error("nobody connects");
    return RawPeer(::accept(fd_, nullptr, nullptr));
  }

 private:
  int fd_;
};

}  // namespace rdma_migrate::test
