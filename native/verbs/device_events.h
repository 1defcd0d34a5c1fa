// Asynchronous events of devices (ibv_get_async_event): a queue pair that the device has stopped, and why.
// librdmacm opens each device once for the whole process, so all queue pairs of a device share one queue of
// events; whoever reads an event gives it to the queue pair that it is for.
#pragma once

#include <infiniband/verbs.h>

#include <atomic>

#include "fabric/processor.h"

namespace rdma_migrate::verbs {

// Where the events of one queue pair arrive. Events of the whole device count for each of its queue pairs.
class DeviceEvents {
 public:
  // served is kicked after an event.
  DeviceEvents(ibv_context* device, const ibv_qp* queue_pair, fabric::Processor& processor,
               fabric::Served& served);
  ~DeviceEvents();
  DeviceEvents(const DeviceEvents&) = delete;
  DeviceEvents& operator=(const DeviceEvents&) = delete;

  // Reads the events that wait and hands them out, whichever queue pair they are for. Never blocks. The
  // device's async_fd is readable while one waits.
  static void take(ibv_context* device);

  // The first event that says that the queue pair can work no more.
  enum class Fault { kNone, kAccess, kFailed, kDevice };
  Fault fault() const { return fault_.load(); }

 private:
  void receive(const ibv_async_event& event);

  ibv_context* const device_;
  const ibv_qp* const queue_pair_;
  fabric::Processor& processor_;
  fabric::Served& served_;
  std::atomic<Fault> fault_{Fault::kNone};
};

}  // namespace rdma_migrate::verbs
