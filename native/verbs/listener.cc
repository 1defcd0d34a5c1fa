#include "verbs/listener.h"

#include <netinet/in.h>
#include <poll.h>

#include <array>
#include <cerrno>

#include "verbs/connection.h"

namespace rdma_migrate::verbs {
namespace {

// Requests that rdma_cm holds until they are looked at; more are refused.
constexpr int kBacklog = 16;

class VerbsRequest final : public fabric::ConnectionRequest {
 public:
  VerbsRequest(std::unique_ptr<CmId> id, fabric::Bytes data)
      : id_(std::move(id)), data_(std::move(data)), peer_(id_->peer_address()) {}
  ~VerbsRequest() override {
    if (id_) rdma_reject(id_->get(), nullptr, 0);
  }
  std::span<const uint8_t> private_data() const override { return data_; }
  std::string peer_address() const override { return peer_; }
  std::unique_ptr<fabric::Connection> take(const fabric::ConnectionOptions& options,
                                           fabric::ConnectionEvents& events) override {
    if (!id_)
      throw Error("INVALID_ARGUMENT", "the connection request from " + peer_ + " has been taken already");
    return std::make_unique<Connection>(std::move(id_), data_, options, events);
  }

 private:
  std::unique_ptr<CmId> id_;
  const fabric::Bytes data_;
  const std::string peer_;
};

Error listen_error(const std::string& address, int error_number) {
  switch (error_number) {
    case EADDRINUSE:
      return Error("ADDRESS_IN_USE",
                   "something listens on " + address + " already; choose another port or stop it",
                   error_number);
    case EACCES:
    case EPERM:
      return Error("PERMISSION_DENIED", "not allowed to listen on " + address + "; choose a port above 1023",
                   error_number);
    case EADDRNOTAVAIL:
      return Error("ADDRESS_NOT_FOUND",
                   address + " is no address of this host; listen on 0.0.0.0 or [::] for all", error_number);
    case ENODEV:
      return Error("PROVIDER_UNAVAILABLE",
                   "no RDMA device has the address " + address +
                       "; listen on an address of a device (rdma-migrate doctor shows them), on 0.0.0.0, or "
                       "use provider iwarp",
                   error_number);
    default:
      return Error("LISTEN_FAILED", "cannot listen for RDMA on " + address + "; see the kernel's log",
                   error_number);
  }
}

std::unique_ptr<CmId> bind_to(const fabric::SocketAddress& address) {
  auto id = std::make_unique<CmId>();
  if (rdma_bind_addr(id->get(), const_cast<sockaddr*>(address.get())) != 0) {
    throw listen_error(fabric::to_string(address), errno);
  }
  // rdma_cm takes a loopback address and finds no device for it.
  if (id->get()->verbs == nullptr && !is_any(address)) throw listen_error(fabric::to_string(address), ENODEV);
  return id;
}

}  // namespace

bool is_any(const fabric::SocketAddress& address) {
  if (address.family() == AF_INET) {
    return reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_addr.s_addr == INADDR_ANY;
  }
  return IN6_IS_ADDR_UNSPECIFIED(&reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_addr) != 0;
}

std::unique_ptr<CmId> bind_any(const fabric::Endpoint& endpoint) {
  const std::vector<fabric::SocketAddress> addresses = fabric::resolve(endpoint, fabric::Lookup::kPassive);
  for (size_t at = 0;; ++at) {
    try {
      return bind_to(addresses[at]);
    } catch (const Error&) {
      if (at + 1 == addresses.size()) throw;
    }
  }
}

Listener::Listener(const fabric::Endpoint& endpoint, OnRequest on_request)
    : on_request_(std::move(on_request)), id_(bind_any(endpoint)) {
  port_ = ntohs(rdma_get_src_port(id_->get()));
  address_ = id_->local_address();
  if (rdma_listen(id_->get(), kBacklog) != 0) throw listen_error(address_, errno);
  thread_ = std::thread([this] { run(); });
}

void Listener::close() {
  std::lock_guard one_at_a_time(close_mutex_);
  stopping_.store(true);
  wake_.signal();
  if (thread_.joinable()) thread_.join();
  id_.reset();
}

void Listener::run() noexcept {
  while (!stopping_.load()) {
    std::array<pollfd, 2> entries{{{wake_.fd(), POLLIN, 0}, {id_->fd(), POLLIN, 0}}};
    poll(entries.data(), entries.size(), -1);
    if (entries[0].revents != 0) wake_.drain();
    try {
      take_requests();
    } catch (const std::exception&) {
      // Out of memory or descriptors, or the user's callback threw: this peer is lost, the others are served.
    }
  }
}

void Listener::take_requests() {
  for (bool more = true; more && !stopping_.load();) {
    fabric::Bytes data;
    std::unique_ptr<CmId> incoming = id_->next_request(data, more);
    if (incoming) on_request_(std::make_unique<VerbsRequest>(std::move(incoming), std::move(data)));
  }
}

}  // namespace rdma_migrate::verbs
