#include "verbs/reach.h"

#include <algorithm>

#include "verbs/devices.h"
#include "verbs/listener.h"
#include "verbs/route.h"
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

fabric::Reach listening(const fabric::Endpoint& endpoint, Clock::time_point deadline) {
  // Any port: the address is in question here.
  const auto addresses = look_up({endpoint.host, 0}, fabric::Direction::kListen, deadline);
  const bool all = std::all_of(addresses.begin(), addresses.end(),
                               [](const fabric::SocketAddress& address) { return is_any(address); });
  return all ? any_active_port() : through(*bind_any(addresses), "has", endpoint.host);
}

// The device that a connection to the address would use. Throws Error.
fabric::Reach connecting_to(const fabric::SocketAddress& address, Clock::time_point deadline) {
  Route route(address, deadline);
  while (!route.advance()) wait_readable(route.fd(), deadline);
  return through(*route.take(), "leads to", fabric::to_string(address));
}

fabric::Reach connecting(const fabric::Endpoint& endpoint, Clock::time_point deadline) {
  const auto addresses = look_up(endpoint, fabric::Direction::kConnect, deadline);
  return fabric::open_first(addresses,
                            [&](const auto& address, size_t) { return connecting_to(address, deadline); });
}

}  // namespace

fabric::Reach find_device(const fabric::Endpoint& endpoint, fabric::Direction direction,
                          std::chrono::milliseconds timeout) {
  try {
    require_devices();
    const Clock::time_point deadline = Clock::now() + timeout;
    return direction == fabric::Direction::kListen ? listening(endpoint, deadline)
                                                   : connecting(endpoint, deadline);
  } catch (const std::exception& error) {
    fabric::Reach reach;
    // What happened, without the advice to those who asked for a connection.
    reach.reason = error.what();
    reach.reason.resize(std::min(reach.reason.size(), reach.reason.find("; ")));
    return reach;
  }
}

}  // namespace rdma_migrate::verbs
