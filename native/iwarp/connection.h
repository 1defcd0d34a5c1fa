// A connection: one thread that sets it up and then receives, one that sends.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "fabric/fabric.h"
#include "iwarp/handshake.h"
#include "iwarp/receiver.h"
#include "iwarp/sender.h"

namespace rdma_migrate::iwarp {

class Connection final : public fabric::Connection {
 public:
  // Active side.
  Connection(const fabric::Endpoint& endpoint, const fabric::ConnectionOptions& options,
             fabric::ConnectionEvents& events);
  // Passive side: the peer's request has been read from socket.
  Connection(UniqueFd socket, MpaFrame request, const fabric::ConnectionOptions& options,
             fabric::ConnectionEvents& events);
  ~Connection() override;

  std::unique_ptr<fabric::MemoryRegion> register_memory(uint64_t address, uint64_t length,
                                                        unsigned access) override;
  void revoke_remote_access() override { link_.stags->revoke_remote(); }
  bool pins_memory() const override { return false; }
  bool observe_placement(std::shared_ptr<fabric::PlacementObserver> observer) override;
  void connect(std::span<const uint8_t> private_data) override;
  void accept(std::span<const uint8_t> private_data) override;
  void reject(std::span<const uint8_t> private_data) override;
  bool post_send(const fabric::SendWorkRequest& request) override;
  bool post_recv(const fabric::RecvWorkRequest& request) override;
  void disconnect() override;
  void close() override;
  fabric::ConnectionInfo info() const override;
  const fabric::Counters& counters() const override { return link_.counters; }
  std::chrono::microseconds wire_time() const override;

 private:
  enum class State { kNew, kRunning, kClosed };

  void start(MpaFrame frame);
  void run() noexcept;
  std::optional<Error> live();
  Negotiated set_up(Clock::time_point deadline);
  void prepare(const Negotiated& negotiated);
  void establish(const fabric::Bytes& private_data);
  void begin_sending();
  void terminate(Receiver& receiver, const WireFault& fault);
  void leave_a_word(Receiver& receiver, const Error& error);
  void end_sending(std::optional<Error>& reason);
  void finish(const std::optional<Error>& reason);
  void check_local(uint32_t lkey, uint64_t address, uint32_t length, unsigned right) const;

  const fabric::Endpoint endpoint_;
  const bool passive_;
  MpaFrame request_;  // passive: the peer's
  MpaFrame own_;      // active: the request; passive: the reply
  fabric::ConnectionEvents& events_;
  Link link_;
  std::atomic<size_t> read_depth_{kReadDepth};

  mutable std::mutex mutex_;  // state_, info_, measurable_
  State state_ = State::kNew;
  bool measurable_ = false;                // from the end of the handshake until the socket is closed
  std::chrono::microseconds wire_time_{};  // after that
  fabric::ConnectionInfo info_;

  // Taken down in this order: close() joins receiver_thread_, which ends with joining sender_thread_,
  // flushing both queues, closing the socket and reporting on_closed.
  std::mutex close_mutex_;
  std::unique_ptr<Sender> sender_;
  std::thread sender_thread_;
  std::thread receiver_thread_;
};

}  // namespace rdma_migrate::iwarp
