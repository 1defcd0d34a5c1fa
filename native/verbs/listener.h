// Listens on one address, or on every address of every RDMA device. With one address the listener fails when
// its device is removed. On 0.0.0.0 or [::] nothing is told of that: rdma_cm lets go of the part of the
// listener that was the device's, and makes a new one for each device that comes (back), which is served
// then.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <thread>

#include "fabric/address_limits.h"
#include "fabric/fabric.h"
#include "fd.h"
#include "verbs/cm_id.h"

namespace rdma_migrate::verbs {

class Listener final : public fabric::Listener {
 public:
  // Throws Error: ADDRESS_IN_USE, ADDRESS_NOT_FOUND, PERMISSION_DENIED, LISTEN_FAILED, PROVIDER_UNAVAILABLE.
  Listener(const fabric::Endpoint& endpoint, const fabric::QueuePairOptions& options,
           fabric::ListenerCallbacks callbacks);
  ~Listener() override { close(); }

  std::string address() const override { return address_; }
  uint16_t port() const override { return port_; }
  void close() override;

 private:
  void run() noexcept;
  void wait();
  bool has_too_many() const;
  // False: the device has gone.
  bool take_requests();
  void hand_on(CmId::Incoming incoming);
  void give_up() noexcept;

  const fabric::ListenerCallbacks callbacks_;
  const std::shared_ptr<fabric::AddressLimits> limits_;
  // Ids of peers that nobody has accepted: unanswered ones, and refused ones that the kernel still has.
  const std::shared_ptr<std::atomic<size_t>> strangers_ = std::make_shared<std::atomic<size_t>>(0);
  std::unique_ptr<CmId> id_;  // the thread's, while that runs
  std::string address_;
  uint16_t port_ = 0;
  WakeEvent wake_;
  std::atomic<bool> stopping_{false};

  // Taken down first: close() joins it.
  std::mutex close_mutex_;
  std::thread thread_;
};

// 0.0.0.0 or [::]
bool is_any(const fabric::SocketAddress& address);

// An id that is bound to the first of the addresses that a device has. Throws Error like Listener.
std::unique_ptr<CmId> bind_any(const std::vector<fabric::SocketAddress>& addresses);

}  // namespace rdma_migrate::verbs
