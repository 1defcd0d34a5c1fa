// The way to one address: rdma_cm finds the device that leads there, then the route. Asked again and again by
// whoever watches fd(); nothing here waits.
#pragma once

#include <memory>
#include <string>

#include "fabric/address.h"
#include "verbs/cm_id.h"

namespace rdma_migrate::verbs {

class Route {
 public:
  // Throws Error: PROVIDER_UNAVAILABLE, CONNECT_FAILED and what else resolve_call_error() makes.
  Route(const fabric::SocketAddress& address, Clock::time_point deadline);

  // Until take().
  bool is_open() const { return id_ != nullptr; }
  // Readable when advance() has something to do.
  int fd() const { return id_->fd(); }
  Clock::time_point deadline() const { return deadline_; }
  // True: the route is known. Throws Error: TIMEOUT after the deadline, and as the constructor.
  bool advance();
  // After advance() was true; bound to its device.
  std::unique_ptr<CmId> take() { return std::move(id_); }

 private:
  const std::string name_;
  const Clock::time_point deadline_;
  std::unique_ptr<CmId> id_;
  bool has_device_ = false;
};

}  // namespace rdma_migrate::verbs
