#include "verbs/listener.h"

#include <netinet/in.h>
#include <poll.h>

#include <array>
#include <cerrno>

#include "thread.h"
#include "verbs/connection_request.h"

namespace rdma_migrate::verbs {
namespace {

// Requests that rdma_cm holds until they are looked at; more are refused.
constexpr int kBacklog = 16;
// Requests that nobody has answered yet, as the software RNIC has it. More are refused at once: each is a
// descriptor.
constexpr size_t kMaxUnanswered = 64;
// With those that have been refused and are still in the kernel, which may keep them. At this many nothing
// more is taken from rdma_cm, whose backlog refuses then. It lets go of most within milliseconds, and the
// pause keeps honest peers waiting too: it is short.
constexpr size_t kMaxStrangers = 2 * kMaxUnanswered;
constexpr std::chrono::milliseconds kTakePause{10};
// For the kernel to refuse whom nobody has looked at, after which the address can be listened on again.
constexpr std::chrono::milliseconds kClosePatience{1000};

Error listen_error(const std::string& address, int error_number) {
  return fabric::listen_error(address, error_number,
                              "cannot listen for RDMA on " + address + "; see the kernel's log");
}

Error no_device_error(const std::string& address) {
  return Error("PROVIDER_UNAVAILABLE",
               "no RDMA device has the address " + address +
                   "; listen on an address of a device (rdma-migrate doctor shows them), on 0.0.0.0, or "
                   "use provider iwarp");
}

std::unique_ptr<CmId> bind_to(const fabric::SocketAddress& address) {
  auto id = std::make_unique<CmId>();
  if (rdma_bind_addr(id->get(), const_cast<sockaddr*>(address.get())) != 0) {
    const int cause = errno;
    const std::string name = fabric::to_string(address);
    throw cause == ENODEV ? no_device_error(name) : listen_error(name, cause);
  }
  // rdma_cm takes a loopback address and finds no device for it.
  if (id->get()->verbs == nullptr && !is_any(address)) throw no_device_error(fabric::to_string(address));
  return id;
}

// Counts as long as it lives.
std::shared_ptr<void> count_in(const std::shared_ptr<std::atomic<size_t>>& counter) {
  ++*counter;
  return {counter.get(), [counter](void*) { --*counter; }};
}

}  // namespace

bool is_any(const fabric::SocketAddress& address) {
  if (address.family() == AF_INET) {
    return reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_addr.s_addr == INADDR_ANY;
  }
  return IN6_IS_ADDR_UNSPECIFIED(&reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_addr) != 0;
}

std::unique_ptr<CmId> bind_any(const std::vector<fabric::SocketAddress>& addresses) {
  return fabric::open_first(addresses, [](const auto& address, size_t) { return bind_to(address); });
}

Listener::Listener(const fabric::Endpoint& endpoint, const fabric::QueuePairOptions& options,
                   fabric::ListenerCallbacks callbacks)
    : callbacks_(std::move(callbacks)),
      limits_(std::make_shared<fabric::AddressLimits>(options.connections_per_second,
                                                      fabric::Addresses::kClaimed)),
      id_(bind_any(fabric::resolve(endpoint, fabric::Lookup::kPassive))) {
  port_ = ntohs(rdma_get_src_port(id_->get()));
  address_ = id_->local_address();
  if (rdma_listen(id_->get(), kBacklog) != 0) throw listen_error(address_, errno);
  thread_ = start_thread([this] { run(); });
}

void Listener::close() {
  std::lock_guard one_at_a_time(close_mutex_);
  stopping_.store(true);
  wake_.signal();
  if (thread_.joinable()) thread_.join();
  CmId::destroy_within(std::move(id_), kClosePatience);
}

void Listener::run() noexcept {
  while (!stopping_.load()) {
    wait();
    try {
      if (!take_requests()) return give_up();
    } catch (const std::exception&) {
      // Out of memory or descriptors, or the user's callback threw: this peer is lost, the others are served.
    }
  }
}

void Listener::wait() {
  std::array<pollfd, 2> entries{{{wake_.fd(), POLLIN, 0}, {id_->fd(), POLLIN, 0}}};
  if (has_too_many()) {
    poll(entries.data(), 1, kTakePause.count());  // its descriptor stays readable
  } else {
    poll(entries.data(), entries.size(), -1);
  }
  if (entries[0].revents != 0) wake_.drain();
}

bool Listener::has_too_many() const { return strangers_->load() >= kMaxStrangers; }

bool Listener::take_requests() {
  while (!stopping_.load() && !has_too_many()) {
    std::optional<CmId::Incoming> incoming = id_->next_incoming(count_in(strangers_));
    if (!incoming) return true;
    if (incoming->device_removed) return false;
    if (incoming->id) hand_on(std::move(*incoming));
  }
  return true;
}

void Listener::hand_on(CmId::Incoming incoming) {
  const std::string address = incoming.id->peer_address();
  const bool too_many = !limits_->may_come(address, fabric::AddressLimits::Clock::now()) ||
                        limits_->unanswered() >= kMaxUnanswered;
  auto place = fabric::AddressLimits::place(limits_, fabric::address_key(address));
  const bool refused = too_many || !place;
  auto request = std::make_unique<ConnectionRequest>(std::move(incoming.id), std::move(incoming.private_data),
                                                     std::move(place));
  if (!refused) callbacks_.request(std::move(request));
}

void Listener::give_up() noexcept {
  CmId::destroy_within(std::move(id_), kClosePatience);  // after this event it must go (rdma_get_cm_event(3))
  try {
    callbacks_.failed(Error("LISTEN_FAILED",
                            "the RDMA device of " + address_ +
                                " was removed or reset while a source was waited for; listen again when it "
                                "is back (rdma-migrate doctor shows it)"));
  } catch (const std::exception&) {
    // The user's callback threw; there is nobody else to tell.
  }
}

}  // namespace rdma_migrate::verbs
