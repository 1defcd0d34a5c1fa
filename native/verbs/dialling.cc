#include "verbs/dialling.h"

#include <cerrno>

#include "verbs/wait.h"

namespace rdma_migrate::verbs {

Dialling::Dialling(const fabric::Endpoint& endpoint, Clock::time_point deadline, fabric::Processor& processor,
                   fabric::Served& served)
    : endpoint_(endpoint),
      deadline_(deadline),
      processor_(processor),
      served_(served),
      resolution_(endpoint, [&processor, &served] { processor.kick(served); }) {}

// True: the addresses are there.
bool Dialling::look_up() {
  if (!addresses_.empty()) return true;
  if (auto found = resolution_.result()) {
    addresses_ = std::move(*found);
    return true;
  }
  if (Clock::now() >= deadline_) throw lookup_timeout(endpoint_.host);
  processor_.wake_by(served_, deadline_);
  return false;
}

void Dialling::try_next() {
  const size_t left = addresses_.size() - tried_;
  const fabric::SocketAddress& address = addresses_[tried_++];
  route_.emplace(address, fabric::share_of_time(deadline_, left));
  if (!processor_.watch(route_->fd(), served_))
    throw Error("RESOURCE_LIMIT", "cannot watch rdma_cm's event channel", errno);
}

void Dialling::give_route_up() {
  if (route_ && route_->is_open()) processor_.unwatch(route_->fd());
  route_.reset();
}

std::unique_ptr<CmId> Dialling::advance() {
  if (!look_up()) return nullptr;
  for (;;) {
    try {
      if (!route_) try_next();
      if (!route_->advance()) {
        processor_.wake_by(served_, route_->deadline());
        return nullptr;
      }
      std::unique_ptr<CmId> id = route_->take();
      processor_.unwatch(id->fd());
      return id;
    } catch (const Error&) {
      give_route_up();
      if (tried_ >= addresses_.size()) throw;
    }
  }
}

}  // namespace rdma_migrate::verbs
