#include "verbs/domain_core.h"

#include <cerrno>

#include "verbs/device_events.h"

namespace rdma_migrate::verbs {
namespace {

Error other_device_error(const std::string& found, const std::string& bound) {
  if (found == bound) {
    return Error("CONNECT_FAILED", "the RDMA device " + bound +
                                       " was removed or reset since this domain began to use it; open a new "
                                       "domain for it");
  }
  return Error("CONNECT_FAILED", "the connection leads through the RDMA device " + found +
                                     ", but the domain's memory is registered with " + bound +
                                     "; use addresses of one device's network");
}

}  // namespace

std::shared_ptr<Device> DomainCore::device_for(const CmId& id) {
  if (device_ && device_->context() == id.get()->verbs) return device_;
  if (device_) throw other_device_error(id.device_name(), device_->name());
  auto device = std::make_shared<Device>(id);
  events_.device = device->context();
  const int events = events_.device->async_fd;
  if (!processor_.watch(events, events_))
    throw Error("RESOURCE_LIMIT", "cannot watch the events of " + device->name(), errno);
  try {
    regions_->bind(device);
  } catch (...) {
    processor_.unwatch(events);
    throw;
  }
  device_ = std::move(device);
  return device_;
}

fabric::Served::Next DomainCore::AsyncEvents::serve(unsigned) noexcept {
  DeviceEvents::take(device);
  return Next::kWait;
}

}  // namespace rdma_migrate::verbs
