// A connection: one thread that makes it, then hands on the completions of both queues and the events of
// rdma_cm.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "fabric/fabric.h"
#include "verbs/device_events.h"
#include "verbs/queue_pair.h"
#include "verbs/recv_ring.h"
#include "verbs/regions.h"
#include "verbs/send_ring.h"
#include "verbs/wait.h"

namespace rdma_migrate::verbs {

// Throws Error INVALID_ARGUMENT.
void check_private_data(size_t size, size_t most);

class Connection final : public fabric::Connection {
 public:
  // Active side.
  Connection(const fabric::Endpoint& endpoint, const fabric::ConnectionOptions& options,
             fabric::ConnectionEvents& events);
  // Passive side: id has the peer's request. Throws Error: CONNECT_FAILED.
  Connection(std::unique_ptr<CmId> id, fabric::Bytes request_data, const fabric::ConnectionOptions& options,
             fabric::ConnectionEvents& events);
  ~Connection() override;

  std::unique_ptr<fabric::MemoryRegion> register_memory(uint64_t address, uint64_t length,
                                                        unsigned access) override;
  void revoke_remote_access() override { regions_->revoke_remote(); }
  bool pins_memory() const override { return true; }
  void connect(std::span<const uint8_t> private_data) override;
  void accept(std::span<const uint8_t> private_data) override;
  void reject(std::span<const uint8_t> private_data) override;
  bool post_send(const fabric::SendWorkRequest& request) override;
  bool post_recv(const fabric::RecvWorkRequest& request) override;
  void disconnect() override;
  void close() override;
  fabric::ConnectionInfo info() const override;
  const fabric::Counters& counters() const override { return counters_; }

 private:
  enum class State { kNew, kRunning, kClosed };
  enum class Opening { kConnect, kAccept, kReject };
  struct ConnectCall;

  // connection.cc
  void start(Opening opening, std::span<const uint8_t> private_data);
  void give_sends();
  void give_recvs();

  // connection_life.cc: from the first call to the last event, on thread_.
  void run() noexcept;
  std::optional<Error> live();
  void open_active(Clock::time_point deadline);
  std::unique_ptr<CmId> resolve(Clock::time_point deadline);
  std::unique_ptr<CmId> resolve_one(const fabric::SocketAddress& address, Clock::time_point deadline);
  void make_queue_pair(std::unique_ptr<CmId> id);
  void call_connect(Clock::time_point deadline);
  void call_accept();
  fabric::Bytes wait_established(Clock::time_point deadline);
  void establish(const fabric::Bytes& private_data);
  void finish(const std::optional<Error>& reason);
  void drain_completions();
  bool handshake_lingers() const;
  void release_queue_pair();
  rdma_conn_param parameters() const;
  Cancel cancel(Clock::time_point deadline) { return {wake_, stopping_, deadline}; }

  // connection_pump.cc: while it is up, on thread_.
  std::optional<Error> pump();
  bool poll_queues();
  void on_send_completion(const ibv_wc& completion);
  void on_recv_completion(const ibv_wc& completion);
  void handle_events();
  void sleep();
  void tick();
  void check_stall(Clock::time_point now);
  void check_drain(Clock::time_point now);
  void check_port(Clock::time_point now);
  void probe();
  std::optional<Error> peer_end();
  Error queue_pair_failure();
  std::optional<Error> device_fault() const;
  void note_failure(const ibv_wc& completion);
  bool drained();

  const fabric::Endpoint endpoint_;
  const bool passive_;
  const bool request_is_iwarp_;  // passive: queue_pair_ is thread_'s to take away
  const fabric::ConnectionOptions options_;
  fabric::ConnectionEvents& events_;
  fabric::Bytes request_data_;  // passive: the peer's
  fabric::Bytes own_data_;
  Opening opening_ = Opening::kConnect;
  std::string peer_;
  fabric::Counters counters_;
  const std::shared_ptr<Regions> regions_ = std::make_shared<Regions>();
  WakeEvent wake_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> draining_{false};

  mutable std::mutex mutex_;  // state_, info_
  State state_ = State::kNew;
  fabric::ConnectionInfo info_;

  // Set by thread_ (passive: before it starts); shared with Regions and with a connect call that does not
  // return.
  std::shared_ptr<QueuePair> queue_pair_;
  bool connecting_ = false;  // asked for, and neither made nor refused
  std::atomic<bool> established_{false};

  std::mutex send_mutex_;  // what follows
  SendRing send_ring_;
  bool sends_open_ = false;  // the device takes requests
  bool sends_ended_ = false;
  std::optional<Error> give_failure_;
  bool probing_ = false;
  uint64_t probe_position_ = 0;

  std::mutex recv_mutex_;  // what follows
  RecvRing recv_ring_;
  bool recvs_open_ = false;
  bool recvs_ended_ = false;

  // thread_ only.
  std::optional<Error> failure_;
  bool oldest_failed_ = false;
  bool peer_gone_ = false;
  bool disconnect_sent_ = false;
  uint64_t lost_sends_ = 0;
  std::optional<Clock::time_point> flushed_since_;
  std::optional<Clock::time_point> port_down_since_;
  std::optional<Clock::time_point> drain_since_;
  Clock::time_point linger_until_{};
  Clock::time_point progress_{};
  Clock::time_point next_tick_{};
  std::optional<DeviceEvents> device_events_;

  // close() joins it. Its last act is on_closed, then the device's objects go.
  std::mutex close_mutex_;
  std::thread thread_;
};

}  // namespace rdma_migrate::verbs
