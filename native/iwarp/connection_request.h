// A peer that has sent its MPA request: a socket, and no more.
#pragma once

#include <string>

#include "fabric/fabric.h"
#include "iwarp/carrier.h"
#include "iwarp/resume_frames.h"

namespace rdma_migrate::iwarp {

class ConnectionRequest final : public fabric::ConnectionRequest {
 public:
  ConnectionRequest(UniqueFd socket, MpaFrame request, const fabric::QueuePairOptions& options,
                    std::shared_ptr<void> place);
  ~ConnectionRequest() override;

  std::span<const uint8_t> private_data() const override { return request_.private_data; }
  std::string peer_address() const override { return peer_; }
  void reject(std::span<const uint8_t> private_data) override;
  // The peer asks for a resumable queue pair, in a tail that is no part of its user's private data.
  bool asks_resumable() const { return asks_resumable_; }
  // The socket with what is to be said on it. Throws Error INVALID_ARGUMENT.
  Answer accept(const fabric::QueuePairOptions& options, std::span<const uint8_t> private_data,
                bool may_send_at_once);

 private:
  void check_open() const;

  UniqueFd socket_;
  MpaFrame request_;
  const bool asks_resumable_;
  const fabric::QueuePairOptions options_;
  const std::string peer_;
  const std::shared_ptr<void> place_;  // among the listener's unanswered requests
};

}  // namespace rdma_migrate::iwarp
