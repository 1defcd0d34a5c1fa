#include "verbs/route.h"

#include <cerrno>

#include "verbs/errors.h"
#include "verbs/wait.h"

namespace rdma_migrate::verbs {

Route::Route(const fabric::SocketAddress& address, Clock::time_point deadline)
    : name_(fabric::to_string(address)), deadline_(deadline), id_(std::make_unique<CmId>()) {
  id_->set_busy();
  if (rdma_resolve_addr(id_->get(), nullptr, const_cast<sockaddr*>(address.get()), poll_timeout(deadline)) !=
      0) {
    throw resolve_call_error("rdma_resolve_addr", name_, errno);
  }
}

bool Route::advance() {
  while (const std::optional<CmEvent> event = id_->next_event()) {
    const auto wanted = has_device_ ? RDMA_CM_EVENT_ROUTE_RESOLVED : RDMA_CM_EVENT_ADDR_RESOLVED;
    if (event->type != wanted) throw connect_event_error(*event, name_, id_->is_iwarp());
    if (has_device_) return true;
    if (id_->get()->verbs == nullptr) throw no_device_error(name_, 0);
    has_device_ = true;
    if (rdma_resolve_route(id_->get(), poll_timeout(deadline_)) != 0)
      throw resolve_call_error("rdma_resolve_route", name_, errno);
  }
  if (Clock::now() < deadline_) return false;
  throw connect_call_error(has_device_ ? "rdma_resolve_route" : "rdma_resolve_addr", name_, ETIMEDOUT);
}

}  // namespace rdma_migrate::verbs
