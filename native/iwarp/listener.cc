#include "iwarp/listener.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <string_view>
#include <unordered_map>

#include "fabric/address.h"
#include "iwarp/connection_request.h"

namespace rdma_migrate::iwarp {
namespace {

constexpr size_t kMaxHalfOpen = 64;
constexpr size_t kMaxHalfOpenOfOne = 32;  // of one address; a migration of 16 channels has 15 at a time
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
      : address(fabric::peer_address_of(socket.get())),
        key(fabric::address_key(address)),
        socket_(std::move(socket)),
        listener_(listener) {}

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
  const std::string key;

 private:
  UniqueFd socket_;
  Listener& listener_;
  MpaReader reader_{MpaKind::kRequest};
};

Listener::Listener(const fabric::Endpoint& endpoint, const fabric::QueuePairOptions& options,
                   fabric::ListenerCallbacks callbacks)
    : options_(options),
      callbacks_(std::move(callbacks)),
      limits_(std::make_shared<fabric::AddressLimits>(options.connections_per_second)),
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
    if (limits_->unanswered() >= kMaxUnanswered) {
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
  auto next = std::make_unique<HalfOpen>(*this, std::move(socket));
  if (!limits_->may_come(next->address, Clock::now())) {
    report(next->address, "nothing that was read: it comes more often than connectionsPerSecond allows");
    return;
  }
  // A flood of silent peers costs the oldest of them their place; an honest one needs its place for a moment
  // only.
  if (HalfOpen* const other = in_the_way(next->key)) turn_away(*other);
  peers_.push_back(std::move(next));
  HalfOpen& peer = *peers_.back();
  processor_.wake_by(peer, Clock::now() + std::chrono::milliseconds(options_.connect_timeout_ms));
  if (!processor_.watch(peer.fd(), peer)) forget(peer);
}

Listener::HalfOpen* Listener::in_the_way(const std::string& key) const {
  std::unordered_map<std::string_view, size_t> of;
  for (const auto& peer : peers_) ++of[peer->key];
  const auto own = of.find(key);
  const bool too_many = limits_->any() && own != of.end() && own->second >= kMaxHalfOpenOfOne;
  if (!too_many && peers_.size() < kMaxHalfOpen) return nullptr;
  size_t most = 0;
  for (const auto& [each, count] : of) most = std::max(most, count);
  const auto found = std::find_if(peers_.begin(), peers_.end(), [&](const auto& peer) {
    return too_many ? peer->key == key : of[peer->key] == most;
  });
  return found->get();
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
  const std::string address = peer.address;
  std::string spoke = spoken_by(peer.reader().bytes());
  forget(peer);
  report(address, std::move(spoke));
}

void Listener::report(const std::string& address, std::string spoke) {
  if (const auto due = reports_.next(address, std::move(spoke), Clock::now())) callbacks_.stranger(*due);
}

void Listener::hand_on(HalfOpen& peer) {
  MpaFrame frame = peer.reader().frame();
  auto place = fabric::AddressLimits::place(limits_, peer.key);
  forget(peer);
  UniqueFd socket = peer.take_socket();
  const bool refused = frame.markers || frame.reject || !place;
  if (const std::optional<Attach> attach = decode_attach(frame.private_data); attach && !refused)
    return attach_to_queue_pair(std::move(socket), std::move(frame), *attach);
  auto request =
      std::make_unique<ConnectionRequest>(std::move(socket), std::move(frame), options_, std::move(place));
  if (!refused) callbacks_.request(std::move(request));
}

// No request for a connection: a queue pair of this process has lost its way to that peer.
void Listener::attach_to_queue_pair(UniqueFd socket, MpaFrame frame, const Attach& attach) {
  if (engine_->attachables().hand(socket, frame, attach)) return;
  ConnectionRequest(std::move(socket), std::move(frame), options_, nullptr).reject(encode_unknown());
}

}  // namespace rdma_migrate::iwarp
