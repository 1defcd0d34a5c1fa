// The active side's way to an open stream: look-up, TCP, MPA request and reply. A state machine that never
// waits.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fabric/resolver.h"
#include "fd.h"
#include "iwarp/handshake.h"
#include "iwarp/mpa_reader.h"
#include "iwarp/processor.h"

namespace rdma_migrate::iwarp {

class Dialling {
 public:
  // wake: asks for another step(), from any thread; not called once this object is gone. let_go: the socket
  // is about to be closed for another one.
  Dialling(const fabric::Endpoint& endpoint, const fabric::QueuePairOptions& options,
           fabric::Bytes private_data, Clock::time_point deadline, std::function<void()> wake,
           std::function<void(int socket)> let_go);

  // Goes on as far as it can. True: socket() and negotiated() are there. Throws Error ADDRESS_NOT_FOUND,
  // CONNECTION_REFUSED, CONNECT_FAILED, RESOURCE_LIMIT, TIMEOUT, REJECTED, MPA_ERROR, CONNECTION_LOST.
  bool step(Clock::time_point now);
  // The socket of now, which changes from try to try; none: -1.
  int fd() const { return socket_.get(); }
  // A later time than this is of no use.
  Clock::time_point deadline() const { return std::min(deadline_, try_by_); }

  UniqueFd take_socket() { return std::move(socket_); }
  const Negotiated& negotiated() const { return negotiated_; }

 private:
  enum class Phase { kResolving, kConnecting, kAsking, kAwaitingReply };

  void resolve_step(Clock::time_point now);
  void start_connecting(Clock::time_point now);
  void connect_step(Clock::time_point now);
  bool ask_step(Clock::time_point now);
  bool reply_step(Clock::time_point now);
  [[noreturn]] void fail_lost(const std::string& what, int error_number = 0) const;
  Error no_answer() const;

  const fabric::Endpoint endpoint_;
  const fabric::QueuePairOptions options_;
  const fabric::Bytes private_data_;
  const Clock::time_point deadline_;
  const std::string peer_;
  Clock::time_point try_by_ = Clock::time_point::max();
  Phase phase_ = Phase::kResolving;
  uint8_t revision_ = 2;
  std::unique_ptr<fabric::Resolution> resolution_;
  std::vector<fabric::SocketAddress> addresses_;
  size_t at_ = 0;  // of addresses_
  UniqueFd socket_;
  const std::function<void(int socket)> let_go_;
  MpaFrame request_;
  fabric::Bytes unsent_;
  std::optional<MpaReader> reply_;
  Negotiated negotiated_;
};

}  // namespace rdma_migrate::iwarp
