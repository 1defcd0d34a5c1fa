// A queue pair: its queues and its state, and the carrier of now.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>

#include "fabric/fabric.h"
#include "verbs/carrier.h"

namespace rdma_migrate::verbs {

class QueuePair final : public fabric::QueuePair, private CarrierUser, private fabric::Served {
 public:
  QueuePair(std::shared_ptr<DomainCore> core, const fabric::QueuePairOptions& options,
            fabric::QueuePairEvents& events);
  ~QueuePair() override { close(); }

  void connect(const fabric::Endpoint& endpoint, std::span<const uint8_t> private_data) override;
  void accept(std::unique_ptr<fabric::ConnectionRequest> request, std::span<const uint8_t> private_data,
              bool may_send_at_once) override;
  size_t post_send(std::span<const fabric::SendWorkRequest> requests) override {
    return queues_.post_send(requests);
  }
  size_t post_recv(std::span<const fabric::RecvWorkRequest> requests) override {
    return queues_.post_recv(requests);
  }
  void notify() override;
  void disconnect() override;
  void close() override;
  fabric::QueuePairState state() const override { return state_.load(); }
  fabric::QueuePairInfo info() const override;
  const fabric::Counters& counters() const override { return queues_.counters; }

 private:
  struct Opening {
    fabric::Endpoint endpoint;  // to dial; none: answer
    fabric::Bytes private_data;
    std::optional<Answer> answer;
    std::string peer;
  };

  void kick();
  void check_startable() const;
  void start(Opening opening);
  Next serve(unsigned reasons) noexcept override;
  void begin(Opening opening) noexcept;
  void end_here();
  void wait_ended();
  void change(fabric::QueuePairChange change);

  void carrier_attached(DeviceQueuePair& queue_pair) override;
  void carrier_up(std::span<const uint8_t> private_data) override;
  void carrier_sent(std::span<const fabric::Completion> completions) override;
  void carrier_received(std::span<const fabric::Completion> completions) override;
  void carrier_down(const std::optional<Error>& reason, bool oldest_failed) noexcept override;

  const std::shared_ptr<DomainCore> core_;
  fabric::Processor& processor_;
  const fabric::QueuePairOptions options_;
  fabric::QueuePairEvents& events_;
  WorkQueues queues_;
  std::atomic<fabric::QueuePairState> state_{fabric::QueuePairState::kInit};
  std::atomic<bool> notified_{false};
  std::atomic<bool> draining_{false};

  mutable std::mutex mutex_;  // what follows
  std::condition_variable has_ended_;
  bool started_ = false;
  bool closed_ = false;
  bool ended_ = false;  // on_closed has returned
  std::optional<Opening> opening_;
  fabric::QueuePairInfo info_;

  std::mutex close_mutex_;
  std::unique_ptr<Carrier> carrier_;  // the processor's, made and destroyed there
};

}  // namespace rdma_migrate::verbs
