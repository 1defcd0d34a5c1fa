#include "iwarp/listener.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>

#include "fabric/address.h"
#include "iwarp/connection_request.h"

namespace rdma_migrate::iwarp {
namespace {

constexpr size_t kMaxHalfOpen = 64;
// Whole requests that nobody has answered yet: more of them wait in the kernel.
constexpr size_t kMaxUnanswered = 64;
constexpr size_t kAcceptAtOnce = 16;
constexpr int kBacklog = 1024;
constexpr size_t kLeastToName = 4;                      // bytes that tell one protocol from another
constexpr std::chrono::milliseconds kAcceptPause{100};  // out of descriptors, or too much is unanswered

UniqueFd listen_on(const fabric::SocketAddress& address) {
  const std::string name = fabric::to_string(address);
  const auto failed = [&name] { return fabric::listen_error(name, errno, "cannot listen on " + name); };
  UniqueFd socket(::socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) throw failed();
  int on = 1;
  int off = 0;
  setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  // [::] takes IPv4 peers too, as QEMU's does.
  if (address.family() == AF_INET6) setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  if (bind(socket.get(), address.get(), address.length) != 0 || ::listen(socket.get(), kBacklog) != 0)
    throw failed();
  return socket;
}

UniqueFd listen_on_any(const std::vector<fabric::SocketAddress>& addresses) {
  return fabric::open_first(addresses, [](const auto& address, size_t) { return listen_on(address); });
}

}  // namespace

// A peer that has not sent its whole request.
class Listener::HalfOpen final : public Served {
 public:
  HalfOpen(Listener& listener, UniqueFd socket)
      : address(fabric::peer_address_of(socket.get())), socket_(std::move(socket)), listener_(listener) {}

  Next serve(unsigned reasons) noexcept override {
    try {
      // Read first: on a busy thread its time may have come together with its request.
      switch (reader_.read(socket_.get())) {
        case MpaReader::Went::kDry:
          if ((reasons & kDue) != 0 ||
              (reader_.bytes().size() >= kLeastToName && !may_be_mpa_request(reader_.bytes())))
            listener_.turn_away(*this);
          return Next::kWait;
        case MpaReader::Went::kDone:
          listener_.hand_on(*this);
          return Next::kWait;
        case MpaReader::Went::kEnded:
        case MpaReader::Went::kBroken:
          break;
      }
    } catch (const std::exception&) {
      // Not a request, or no memory for it: the others are served.
    }
    listener_.turn_away(*this);
    return Next::kWait;
  }

  UniqueFd take_socket() { return std::move(socket_); }
  int fd() const { return socket_.get(); }
  const MpaReader& reader() const { return reader_; }

  const std::string address;  // asked at once: of a peer that is gone nobody can tell it

 private:
  UniqueFd socket_;
  Listener& listener_;
  MpaReader reader_{MpaKind::kRequest};
};

Listener::Listener(const fabric::Endpoint& endpoint, const fabric::QueuePairOptions& options,
                   fabric::ListenerCallbacks callbacks)
    : options_(options),
      callbacks_(std::move(callbacks)),
      engine_(Engine::shared()),
      processor_(engine_->of_listeners()),
      socket_(listen_on_any(fabric::resolve(endpoint, fabric::Lookup::kPassive))),
      address_(fabric::local_address_of(socket_.get())) {
  fabric::SocketAddress bound;
  bound.length = sizeof bound.storage;
  getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&bound.storage), &bound.length);
  port_ = fabric::port_of(bound);
  int failure = 0;
  processor_.call([&] {
    if (!processor_.watch(socket_.get(), *this)) failure = errno;
  });
  if (failure != 0) throw fabric::listen_error(address_, failure, "cannot listen on " + address_);
}

Listener::~Listener() { close(); }

void Listener::close() {
  std::lock_guard one_at_a_time(close_mutex_);
  if (std::exchange(closed_, true)) return;
  processor_.call([this] {
    processor_.forget(*this);
    for (const auto& peer : peers_) {
      processor_.unwatch(peer->fd());
      processor_.forget(*peer);
    }
    peers_.clear();
    processor_.unwatch(socket_.get());
    socket_.reset();
  });
}

Served::Next Listener::serve(unsigned) noexcept {
  try {
    return accept_some();
  } catch (const std::exception&) {
    // Out of memory: this peer is lost, the others are served.
    return Next::kGoOn;
  }
}

Served::Next Listener::accept_some() {
  for (size_t count = 0; count < kAcceptAtOnce; ++count) {
    if (unanswered_->load() >= kMaxUnanswered) {
      processor_.wake_by(*this, Clock::now() + kAcceptPause);
      return Next::kWait;
    }
    UniqueFd socket(accept4(socket_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!socket) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno != EAGAIN) processor_.wake_by(*this, Clock::now() + kAcceptPause);
      return Next::kWait;
    }
    admit(std::move(socket));
  }
  return Next::kGoOn;
}

void Listener::admit(UniqueFd socket) {
  // A flood of silent peers costs the oldest of them their place; an honest one needs its place for a moment
  // only.
  if (peers_.size() >= kMaxHalfOpen) turn_away(*peers_.front());
  peers_.push_back(std::make_unique<HalfOpen>(*this, std::move(socket)));
  HalfOpen& peer = *peers_.back();
  processor_.wake_by(peer, Clock::now() + std::chrono::milliseconds(options_.connect_timeout_ms));
  if (!processor_.watch(peer.fd(), peer)) forget(peer);
}

void Listener::forget(HalfOpen& peer) {
  processor_.unwatch(peer.fd());
  processor_.forget(peer);
  const auto found =
      std::find_if(peers_.begin(), peers_.end(), [&](const auto& each) { return each.get() == &peer; });
  if (found == peers_.end()) return;
  processor_.retire(std::move(*found));
  peers_.erase(found);
}

void Listener::turn_away(HalfOpen& peer) {
  const auto report = reports_.next(peer.address, spoken_by(peer.reader().bytes()), Clock::now());
  forget(peer);
  if (report) callbacks_.stranger(*report);
}

void Listener::hand_on(HalfOpen& peer) {
  MpaFrame frame = peer.reader().frame();
  forget(peer);
  UniqueFd socket = peer.take_socket();
  const bool refused = frame.markers || frame.reject;
  auto request =
      std::make_unique<ConnectionRequest>(std::move(socket), std::move(frame), options_, unanswered_);
  if (!refused) callbacks_.request(std::move(request));
}

}  // namespace rdma_migrate::iwarp
