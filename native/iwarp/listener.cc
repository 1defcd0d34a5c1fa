#include "iwarp/listener.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>

#include "fabric/address.h"
#include "iwarp/connection.h"
#include "thread.h"

namespace rdma_migrate::iwarp {
namespace {

constexpr size_t kMaxHalfOpen = 16;
constexpr int kBacklog = 64;
constexpr size_t kLeastToName = 4;                      // bytes that tell one protocol from another
constexpr std::chrono::milliseconds kAcceptPause{100};  // when the process is out of file descriptors

void send_reject(int socket, const MpaFrame& request, const fabric::ConnectionOptions& options) {
  fabric::Bytes reply = encode(make_reply(request, options, {}, true));
  send(socket, reply.data(), reply.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

class IwarpRequest final : public fabric::ConnectionRequest {
 public:
  IwarpRequest(UniqueFd socket, MpaFrame request, fabric::ConnectionOptions options)
      : socket_(std::move(socket)),
        request_(std::move(request)),
        options_(options),
        peer_(fabric::peer_address_of(socket_.get())) {}
  ~IwarpRequest() override {
    if (socket_) send_reject(socket_.get(), request_, options_);
  }
  std::span<const uint8_t> private_data() const override { return request_.private_data; }
  std::string peer_address() const override { return peer_; }
  std::unique_ptr<fabric::Connection> take(const fabric::ConnectionOptions& options,
                                           fabric::ConnectionEvents& events) override {
    if (!socket_)
      throw Error("INVALID_ARGUMENT", "the connection request from " + peer_ + " has been taken already");
    return std::make_unique<Connection>(std::move(socket_), request_, options, events);
  }

 private:
  UniqueFd socket_;
  const MpaFrame request_;
  const fabric::ConnectionOptions options_;
  const std::string peer_;
};

Error listen_error(const std::string& address, int error_number) {
  return fabric::listen_error(address, error_number, "cannot listen on " + address);
}

UniqueFd listen_on(const fabric::SocketAddress& address) {
  std::string name = fabric::to_string(address);
  UniqueFd socket(::socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) throw listen_error(name, errno);
  int on = 1;
  int off = 0;
  setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  // [::] takes IPv4 peers too, as QEMU's does.
  if (address.family() == AF_INET6) setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  if (bind(socket.get(), address.get(), address.length) != 0 || ::listen(socket.get(), kBacklog) != 0) {
    throw listen_error(name, errno);
  }
  return socket;
}

UniqueFd listen_on_any(const std::vector<fabric::SocketAddress>& addresses) {
  return fabric::open_first(addresses, [](const auto& address, size_t) { return listen_on(address); });
}

}  // namespace

Listener::Listener(const fabric::Endpoint& endpoint, const fabric::ConnectionOptions& options,
                   OnRequest on_request, OnStranger on_stranger)
    : options_(options),
      on_request_(std::move(on_request)),
      on_stranger_(std::move(on_stranger)),
      socket_(listen_on_any(fabric::resolve(endpoint, fabric::Lookup::kPassive))),
      address_(fabric::local_address_of(socket_.get())) {
  fabric::SocketAddress bound;
  bound.length = sizeof bound.storage;
  getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&bound.storage), &bound.length);
  port_ = fabric::port_of(bound);
  thread_ = start_thread([this] { run(); });
}

void Listener::close() {
  std::lock_guard one_at_a_time(close_mutex_);
  stopping_.store(true);
  wake_.signal();
  if (thread_.joinable()) thread_.join();
  socket_.reset();
}

void Listener::run() noexcept {
  while (!stopping_.load()) {
    try {
      step();
    } catch (const std::exception&) {
      // Out of memory, or the user's callback threw: this peer is lost, the others are served.
    }
  }
  peers_.clear();
}

void Listener::step() {
  std::vector<pollfd> entries{{wake_.fd(), POLLIN, 0}};
  Clock::time_point now = Clock::now();
  Clock::time_point until = now + std::chrono::hours(1);
  bool paused = now < accept_again_;
  if (paused) until = accept_again_;
  entries.push_back({paused ? -1 : socket_.get(), POLLIN, 0});
  for (const HalfOpen& peer : peers_) {
    entries.push_back({peer.socket.get(), POLLIN, 0});
    until = std::min(until, peer.deadline);
  }
  auto timeout = std::chrono::ceil<std::chrono::milliseconds>(until - now).count();
  if (poll(entries.data(), entries.size(), static_cast<int>(std::max<int64_t>(timeout, 0))) < 0) return;
  if (stopping_.load()) return;
  size_t at = 2;
  for (auto peer = peers_.begin(); peer != peers_.end(); ++at) {
    auto current = peer++;
    if (entries[at].revents == 0) continue;
    // Out of the list before the user's callback can throw.
    std::list<HalfOpen> in_hand;
    in_hand.splice(in_hand.begin(), peers_, current);
    if (!read_request(in_hand.front())) peers_.splice(peer, in_hand);
  }
  drop_late();
  if (entries[1].revents != 0) accept_all();
}

void Listener::accept_all() {
  for (size_t count = 0; count < kMaxHalfOpen; ++count) {
    UniqueFd socket(accept4(socket_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!socket) {
      if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
        accept_again_ = Clock::now() + kAcceptPause;
      return;
    }
    // A flood of silent peers costs the oldest of them their place; an honest one needs its place for a
    // moment only.
    if (peers_.size() == kMaxHalfOpen) {
      report_stranger(peers_.front());
      peers_.pop_front();
    }
    // Asked now: of a peer that is gone nobody can tell it.
    std::string address = fabric::peer_address_of(socket.get());
    peers_.push_back({std::move(socket),
                      std::move(address),
                      {},
                      Clock::now() + std::chrono::milliseconds(options_.connect_timeout_ms)});
  }
}

void Listener::drop_late() {
  Clock::time_point now = Clock::now();
  peers_.remove_if([this, now](const HalfOpen& peer) {
    if (peer.deadline > now) return false;
    report_stranger(peer);
    return true;
  });
}

bool Listener::read_request(HalfOpen& peer) {
  size_t size = kMpaHeaderSize;
  try {
    for (;;) {
      if (!may_be_mpa_request(peer.bytes) && peer.bytes.size() >= kLeastToName) {
        report_stranger(peer);
        return true;
      }
      if (peer.bytes.size() >= kMpaHeaderSize) {
        size =
            kMpaHeaderSize + mpa_body_size(std::span(peer.bytes).first<kMpaHeaderSize>(), MpaKind::kRequest);
        if (peer.bytes.size() == size) break;
      }
      uint8_t chunk[kMpaHeaderSize + kMpaMaxPrivateData];
      ssize_t got = recv(peer.socket.get(), chunk, size - peer.bytes.size(), MSG_DONTWAIT);
      if (got < 0) return errno != EAGAIN && errno != EINTR;
      if (got == 0) {
        report_stranger(peer);
        return true;
      }
      peer.bytes.insert(peer.bytes.end(), chunk, chunk + got);
    }
  } catch (const Error&) {
    report_stranger(peer);
    return true;
  }
  hand_on(peer);
  return true;
}

void Listener::report_stranger(const HalfOpen& peer) {
  const auto report = reports_.next(peer.address, spoken_by(peer.bytes), Clock::now());
  if (report) on_stranger_(*report);
}

void Listener::hand_on(HalfOpen& peer) {
  MpaFrame request = decode_mpa(peer.bytes, MpaKind::kRequest);
  if (request.markers || request.reject) return send_reject(peer.socket.get(), request, options_);
  on_request_(std::make_unique<IwarpRequest>(std::move(peer.socket), std::move(request), options_));
}

}  // namespace rdma_migrate::iwarp
