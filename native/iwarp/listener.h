// Accepts peers and reads their MPA requests, all on one thread: no peer waits for another.
#pragma once

#include <functional>
#include <list>
#include <thread>

#include "fabric/fabric.h"
#include "iwarp/link.h"
#include "iwarp/mpa.h"
#include "iwarp/stranger.h"

namespace rdma_migrate::iwarp {

class Listener final : public fabric::Listener {
 public:
  using OnRequest = std::function<void(std::unique_ptr<fabric::ConnectionRequest>)>;
  using OnStranger = std::function<void(const fabric::Stranger&)>;

  // Throws Error: ADDRESS_IN_USE, ADDRESS_NOT_FOUND, PERMISSION_DENIED, LISTEN_FAILED.
  Listener(const fabric::Endpoint& endpoint, const fabric::ConnectionOptions& options, OnRequest on_request,
           OnStranger on_stranger);
  ~Listener() override { close(); }

  std::string address() const override { return address_; }
  uint16_t port() const override { return port_; }
  void close() override;

 private:
  // A peer that has not sent its whole request.
  struct HalfOpen {
    UniqueFd socket;
    std::string address;
    fabric::Bytes bytes;
    Clock::time_point deadline;
  };

  void run() noexcept;
  void step();
  void accept_all();
  void drop_late();
  // True: the peer needs no more attention, its request was handed on or it was dropped.
  bool read_request(HalfOpen& peer);
  void hand_on(HalfOpen& peer);
  // It is dropped: nothing that it understands can be said.
  void report_stranger(const HalfOpen& peer);

  const fabric::ConnectionOptions options_;
  const OnRequest on_request_;
  const OnStranger on_stranger_;
  StrangerReports reports_;
  UniqueFd socket_;
  std::string address_;
  uint16_t port_ = 0;
  WakeEvent wake_;
  std::atomic<bool> stopping_{false};
  Clock::time_point accept_again_{};
  std::list<HalfOpen> peers_;  // oldest first

  // Taken down first: close() joins it.
  std::mutex close_mutex_;
  std::thread thread_;
};

}  // namespace rdma_migrate::iwarp
