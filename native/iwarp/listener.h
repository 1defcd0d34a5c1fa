// Accepts peers and reads their MPA requests, on the engine's processor for that: no peer waits for another,
// and none costs more than a descriptor until it is answered.
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <string>

#include "fabric/address_limits.h"
#include "fabric/fabric.h"
#include "iwarp/engine.h"
#include "iwarp/mpa_reader.h"
#include "iwarp/resume_frames.h"
#include "iwarp/stranger.h"

namespace rdma_migrate::iwarp {

class Listener final : public fabric::Listener, private Served {
 public:
  // Throws Error: ADDRESS_IN_USE, ADDRESS_NOT_FOUND, PERMISSION_DENIED, LISTEN_FAILED.
  Listener(const fabric::Endpoint& endpoint, const fabric::QueuePairOptions& options,
           fabric::ListenerCallbacks callbacks);
  ~Listener() override;

  std::string address() const override { return address_; }
  uint16_t port() const override { return port_; }
  void close() override;

 private:
  class HalfOpen;

  Next serve(unsigned reasons) noexcept override;
  Next accept_some();
  void admit(UniqueFd socket);
  // Of that address the oldest, or of the address that has most: who makes room for one more; or nullptr.
  HalfOpen* in_the_way(const std::string& key) const;
  // Both on the processor; the peer is forgotten.
  void hand_on(HalfOpen& peer);
  void attach_to_queue_pair(UniqueFd socket, MpaFrame frame, const Attach& attach);
  void turn_away(HalfOpen& peer);
  void report(const std::string& address, std::string spoke);
  void forget(HalfOpen& peer);

  const fabric::QueuePairOptions options_;
  const fabric::ListenerCallbacks callbacks_;
  const std::shared_ptr<fabric::AddressLimits> limits_;
  const std::shared_ptr<Engine> engine_;
  Processor& processor_;
  UniqueFd socket_;
  const std::string address_;
  uint16_t port_ = 0;
  StrangerReports reports_;
  std::list<std::unique_ptr<HalfOpen>> peers_;  // oldest first
  std::mutex close_mutex_;
  bool closed_ = false;
};

}  // namespace rdma_migrate::iwarp
