#include "verbs/device_events.h"

#include <fcntl.h>

#include <algorithm>
#include <mutex>
#include <vector>

namespace rdma_migrate::verbs {
namespace {

struct Registry {
  std::mutex mutex;
  std::vector<DeviceEvents*> all;
};

// Never destroyed: queue pairs may outlive static objects.
Registry& registry() {
  static auto* const only = new Registry;
  return *only;
}

// Events with a queue pair as their element.
bool names_queue_pair(ibv_event_type type) {
  switch (type) {
    case IBV_EVENT_QP_FATAL:
    case IBV_EVENT_QP_REQ_ERR:
    case IBV_EVENT_QP_ACCESS_ERR:
    case IBV_EVENT_COMM_EST:
    case IBV_EVENT_SQ_DRAINED:
    case IBV_EVENT_PATH_MIG:
    case IBV_EVENT_PATH_MIG_ERR:
    case IBV_EVENT_QP_LAST_WQE_REACHED:
      return true;
    default:
      return false;
  }
}

DeviceEvents::Fault fault_of(ibv_event_type type) {
  switch (type) {
    case IBV_EVENT_QP_ACCESS_ERR:
      return DeviceEvents::Fault::kAccess;
    case IBV_EVENT_QP_FATAL:
    case IBV_EVENT_QP_REQ_ERR:
      return DeviceEvents::Fault::kFailed;
    case IBV_EVENT_DEVICE_FATAL:
      return DeviceEvents::Fault::kDevice;
    default:
      return DeviceEvents::Fault::kNone;
  }
}

}  // namespace

DeviceEvents::DeviceEvents(ibv_context* device, const ibv_qp* queue_pair, fabric::Processor& processor,
                           fabric::Served& served)
    : device_(device), queue_pair_(queue_pair), processor_(processor), served_(served) {
  fcntl(device_->async_fd, F_SETFL, fcntl(device_->async_fd, F_GETFL) | O_NONBLOCK);
  std::lock_guard lock(registry().mutex);
  registry().all.push_back(this);
}

DeviceEvents::~DeviceEvents() {
  std::lock_guard lock(registry().mutex);
  std::erase(registry().all, this);
}

void DeviceEvents::take(ibv_context* device) {
  std::lock_guard lock(registry().mutex);
  ibv_async_event event{};
  while (ibv_get_async_event(device, &event) == 0) {
    for (DeviceEvents* each : registry().all) {
      if (each->device_ == device) each->receive(event);
    }
    // Destroying a queue pair waits until each of its events has been acknowledged.
    ibv_ack_async_event(&event);
  }
}

void DeviceEvents::receive(const ibv_async_event& event) {
  if (names_queue_pair(event.event_type) && event.element.qp != queue_pair_) return;
  Fault none = Fault::kNone;
  const Fault fault = fault_of(event.event_type);
  if (fault == Fault::kNone) return;
  fault_.compare_exchange_strong(none, fault);
  processor_.kick(served_);
}

}  // namespace rdma_migrate::verbs
