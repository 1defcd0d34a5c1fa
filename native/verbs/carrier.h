// What brings a queue pair's messages to its peer now: an rdma_cm id with a queue pair of the device. It
// connects or accepts, then hands on completions and events, and watches over the peer; all of it on the
// domain's processing thread, where it never waits.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fabric/fabric.h"
#include "fabric/processor.h"
#include "verbs/connect_call.h"
#include "verbs/device_events.h"
#include "verbs/dialling.h"
#include "verbs/domain_core.h"
#include "verbs/work_queues.h"

namespace rdma_migrate::verbs {

// Told by a carrier, on its processing thread.
class CarrierUser {
 public:
  virtual ~CarrierUser() = default;
  // The device and the addresses are known.
  virtual void carrier_attached(DeviceQueuePair& queue_pair) = 0;
  virtual void carrier_up(std::span<const uint8_t> private_data) = 0;
  virtual void carrier_sent(std::span<const fabric::Completion> completions) = 0;
  virtual void carrier_received(std::span<const fabric::Completion> completions) = 0;
  // The last call: the device touches nothing of the queue pair's any more. Nothing: an orderly end.
  // oldest_failed: the oldest request that is left is the reason.
  virtual void carrier_down(const std::optional<Error>& reason, bool oldest_failed) = 0;
};

// What is said to a peer that has asked.
struct Answer {
  std::unique_ptr<CmId> id;
  fabric::Bytes request_data;  // the peer's
  fabric::Bytes reply_data;
  bool may_send_at_once = false;  // the peer is known to take a message right after the reply
};

class Carrier final : public fabric::Served {
 public:
  Carrier(DomainCore& core, WorkQueues& queues, const fabric::QueuePairOptions& options, CarrierUser& user,
          std::string peer);
  ~Carrier() override;

  // How it begins: one of the two. Throws Error.
  void dial(const fabric::Endpoint& endpoint, fabric::Bytes private_data);
  void answer(Answer answer);
  Next serve(unsigned reasons) noexcept override;
  // What was posted is sent, then the peer is told of the end.
  void drain();
  // Ends now; carrier_down follows within a second, maybe in this call.
  void end(const std::optional<Error>& reason);

 private:
  enum class Phase { kNew, kDialling, kConnecting, kHandshake, kUp, kFaulted, kFlushing, kDown };

  // carrier.cc: until it is up, and after its end.
  Next work(unsigned reasons);
  void dial_on();
  void attach(std::unique_ptr<CmId> id);
  void call_connect();
  void connect_returned(int error_number);
  void shake_hands();
  void establish(const fabric::Bytes& private_data);
  void flush_on();
  void down();
  bool handshake_lingers() const;
  rdma_conn_param parameters(const fabric::Bytes& private_data) const;

  // carrier_pump.cc: while it is up.
  Next pump(unsigned reasons);
  bool poll_queues();
  bool find_more(Clock::time_point now);
  void take_sends(std::span<const ibv_wc> completions);
  void take_recvs(std::span<const ibv_wc> completions);
  void note(const std::optional<Error>& failure);
  void handle_events();
  void judge(Clock::time_point now);
  void tick(Clock::time_point now);
  void check_stall(Clock::time_point now);
  void check_drain(Clock::time_point now);
  void check_port(Clock::time_point now);
  void set_alarm();
  std::optional<Error> peer_end();
  Error queue_pair_failure() const;
  std::optional<Error> device_fault() const;
  bool drained(Clock::time_point now);

  DomainCore& core_;
  fabric::Processor& processor_;
  WorkQueues& queues_;
  const fabric::QueuePairOptions options_;
  CarrierUser& user_;
  std::string peer_;
  Phase phase_ = Phase::kNew;
  Clock::time_point handshake_by_{};
  bool passive_ = false;
  bool may_send_at_once_ = false;
  fabric::Bytes own_data_;
  fabric::Bytes request_data_;  // passive: the peer's
  std::unique_ptr<Dialling> dialling_;
  std::unique_ptr<ConnectCall> connect_call_;
  std::shared_ptr<DeviceQueuePair> queue_pair_;  // shared with a connect call that does not return
  std::optional<DeviceEvents> device_events_;
  bool connecting_ = false;  // asked for, and neither made nor refused
  bool established_ = false;

  // While it is up.
  bool armed_ = false;
  Clock::time_point spin_until_{};
  std::optional<Clock::time_point> first_send_;  // the device gets no send earlier, unless the peer has sent
  std::vector<fabric::Completion> due_;
  std::optional<Error> failure_;
  bool oldest_failed_ = false;
  bool peer_gone_ = false;
  bool draining_ = false;
  bool disconnect_sent_ = false;
  std::optional<Clock::time_point> flushed_since_;
  std::optional<Clock::time_point> port_down_since_;
  std::optional<Clock::time_point> drain_since_;
  Clock::time_point linger_until_{};
  Clock::time_point progress_{};
  Clock::time_point next_tick_{};

  // At its end.
  std::optional<Error> reason_;
  Clock::time_point flush_until_{};
};

}  // namespace rdma_migrate::verbs
