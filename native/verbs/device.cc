#include "verbs/device.h"

#include <cerrno>

namespace rdma_migrate::verbs {
namespace {

// The same address, any port.
void bind_beside(const CmId& anchor, const CmId& first) {
  fabric::SocketAddress address = first.local();
  auto* const generic = reinterpret_cast<sockaddr*>(&address.storage);
  if (address.family() == AF_INET6) {
    reinterpret_cast<sockaddr_in6*>(generic)->sin6_port = 0;
  } else {
    reinterpret_cast<sockaddr_in*>(generic)->sin_port = 0;
  }
  const int error_number = rdma_bind_addr(anchor.get(), generic) == 0 ? 0 : errno;
  if (error_number == 0 && anchor.get()->verbs == first.get()->verbs) return;
  throw Error("CONNECT_FAILED",
              "cannot bind a second rdma_cm id to " + first.local_host() + " of " + first.device_name(),
              error_number);
}

}  // namespace

Device::Device(const CmId& first) : context_(first.get()->verbs), name_(first.device_name()) {
  bind_beside(anchor_, first);
  anchor_.set_busy();  // nobody wants its address: a domain's close need not wait for it
  if (ibv_query_device(context_, &limits_) != 0) throw error("device attributes", errno);
  pd_.reset(ibv_alloc_pd(context_));
  if (!pd_) throw error("protection domain", errno);
}

Error Device::error(const char* what, int error_number) const {
  return Error("CONNECT_FAILED",
               name_ + " gives no " + what + "; see ulimit -l and the limits that rdma-migrate doctor shows",
               error_number);
}

}  // namespace rdma_migrate::verbs
