// Names to addresses without waiting for the system's resolver, which may hang for longer than anybody cares.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "fabric/address.h"

namespace rdma_migrate::fabric {

// One look-up, for connecting. Destroyed before it has ended, it is left to end by itself, and wakes nobody.
class Resolution {
 public:
  // A numeric address is there at once. done: called at most once, on a thread of the resolver's, and never
  // after this object is gone; it must not wait. Throws Error: RESOURCE_LIMIT.
  Resolution(const Endpoint& endpoint, std::function<void()> done);
  ~Resolution();
  Resolution(const Resolution&) = delete;

  // Nothing while it runs. Throws Error: ADDRESS_NOT_FOUND.
  std::optional<std::vector<SocketAddress>> result() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace rdma_migrate::fabric
