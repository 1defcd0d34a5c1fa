// Asynchronous events of devices (ibv_get_async_event): a queue pair that the device has stopped, and why.
// librdmacm opens each device once for the whole process, so all connections of a device share one queue of
// events; whoever reads an event gives it to the connection that it is for.
#pragma once

#include <infiniband/verbs.h>

#include <atomic>
#include <memory>

#include "fd.h"

namespace rdma_migrate::verbs {

// Where the events of one queue pair arrive. Events of the whole device count for each of its queue pairs.
class DeviceEvents {
 public:
  // wake is signaled after an event.
  DeviceEvents(ibv_context* device, const ibv_qp* queue_pair, WakeEvent& wake);
  ~DeviceEvents();
  DeviceEvents(const DeviceEvents&) = delete;
  DeviceEvents& operator=(const DeviceEvents&) = delete;

  // Readable while an event of the device waits, for whichever connection.
  int fd() const { return device_->async_fd; }
  // Reads the events that wait and hands them out. Never blocks.
  void take();

  // The first event that says that the queue pair can work no more.
  enum class Fault { kNone, kAccess, kFailed, kDevice };
  Fault fault() const { return fault_.load(); }

 private:
  void receive(const ibv_async_event& event);

  ibv_context* const device_;
  const ibv_qp* const queue_pair_;
  WakeEvent& wake_;
  std::atomic<Fault> fault_{Fault::kNone};
};

}  // namespace rdma_migrate::verbs
