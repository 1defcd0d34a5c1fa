// From an endpoint to an id that is bound to a device and has a route: the name, then one address after the
// other. On a processing thread; nothing here waits.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "fabric/processor.h"
#include "fabric/resolver.h"
#include "verbs/route.h"

namespace rdma_migrate::verbs {

class Dialling {
 public:
  // served: its descriptors are watched for it, and it is kicked when advance() has something to do.
  Dialling(const fabric::Endpoint& endpoint, Clock::time_point deadline, fabric::Processor& processor,
           fabric::Served& served);

  ~Dialling() { give_route_up(); }
  Dialling(const Dialling&) = delete;

  // Nothing while it goes on. Throws Error, of the last address: ADDRESS_NOT_FOUND, TIMEOUT,
  // PROVIDER_UNAVAILABLE, CONNECT_FAILED, ...
  std::unique_ptr<CmId> advance();

 private:
  bool look_up();
  void try_next();
  void give_route_up();

  const fabric::Endpoint endpoint_;
  const Clock::time_point deadline_;
  fabric::Processor& processor_;
  fabric::Served& served_;
  fabric::Resolution resolution_;
  std::vector<fabric::SocketAddress> addresses_;
  size_t tried_ = 0;
  std::optional<Route> route_;
};

}  // namespace rdma_migrate::verbs
