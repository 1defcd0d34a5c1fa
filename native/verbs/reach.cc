#include "verbs/reach.h"

#include <algorithm>
#include <cerrno>

#include "verbs/devices.h"
#include "verbs/errors.h"
#include "verbs/listener.h"
#include "verbs/wait.h"

namespace rdma_migrate::verbs {
namespace {

fabric::Reach through(const CmId& id, const std::string& verb, const std::string& address) {
  fabric::Reach reach;
  reach.reachable = true;
  reach.device = id.device_name();
  reach.port = id.get()->port_num;
  reach.reason = "RDMA device " + reach.device + " " + verb + " " + address;
  return reach;
}

fabric::Reach any_active_port() {
  fabric::Reach reach;
  for (const fabric::Device& device : list_devices()) {
    for (const fabric::DevicePort& port : device.ports) {
      if (port.state != "ACTIVE" || device.addresses.empty()) continue;
      reach.reachable = true;
      reach.reason = "RDMA device " + device.name + " has an active port";
      return reach;
    }
  }
  reach.reason = "no RDMA device has an active port and an address";
  return reach;
}

fabric::Reach listening(const fabric::Endpoint& endpoint, const Cancel& cancel) {
  // Any port: the address is in question here.
  const auto addresses = look_up({endpoint.host, 0}, cancel, fabric::Lookup::kPassive);
  const bool all = std::all_of(addresses.begin(), addresses.end(),
                               [](const fabric::SocketAddress& address) { return is_any(address); });
  return all ? any_active_port() : through(*bind_any(addresses), "has", endpoint.host);
}

// The device that a connection to the address would use. Throws Error.
fabric::Reach connecting_to(const fabric::SocketAddress& address, const Cancel& cancel) {
  CmId id;
  const std::string name = fabric::to_string(address);
  const auto check = [&](int result, const char* call, rdma_cm_event_type wanted) {
    if (result != 0) throw resolve_call_error(call, name, errno);
    const std::optional<CmEvent> event = wait_event(id, cancel);
    if (!event) throw connect_call_error(call, name, ETIMEDOUT);
    if (event->type != wanted) throw connect_event_error(*event, name, false);
    if (id.get()->verbs == nullptr) throw no_device_error(name, 0);
  };
  const int timeout = poll_timeout(cancel.deadline);
  check(rdma_resolve_addr(id.get(), nullptr, const_cast<sockaddr*>(address.get()), timeout),
        "rdma_resolve_addr", RDMA_CM_EVENT_ADDR_RESOLVED);
  check(rdma_resolve_route(id.get(), timeout), "rdma_resolve_route", RDMA_CM_EVENT_ROUTE_RESOLVED);
  return through(id, "leads to", name);
}

fabric::Reach connecting(const fabric::Endpoint& endpoint, const Cancel& cancel) {
  const auto addresses = look_up(endpoint, cancel);
  return fabric::open_first(addresses,
                            [&](const auto& address, size_t) { return connecting_to(address, cancel); });
}

}  // namespace

fabric::Reach find_device(const fabric::Endpoint& endpoint, fabric::Direction direction,
                          std::chrono::milliseconds timeout) {
  try {
    require_devices();
    WakeEvent wake;
    const std::atomic<bool> stopping{false};
    const Cancel cancel{wake, stopping, Clock::now() + timeout};
    return direction == fabric::Direction::kListen ? listening(endpoint, cancel)
                                                   : connecting(endpoint, cancel);
  } catch (const std::exception& error) {
    fabric::Reach reach;
    // What happened, without the advice to those who asked for a connection.
    reach.reason = error.what();
    reach.reason.resize(std::min(reach.reason.size(), reach.reason.find("; ")));
    return reach;
  }
}

}  // namespace rdma_migrate::verbs
