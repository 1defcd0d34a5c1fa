// A peer that has asked for a connection: an rdma_cm id, and no more.
#pragma once

#include <memory>
#include <string>

#include "fabric/fabric.h"
#include "verbs/cm_id.h"

namespace rdma_migrate::verbs {

class ConnectionRequest final : public fabric::ConnectionRequest {
 public:
  // place: among the listener's unanswered requests, while this one lives.
  ConnectionRequest(std::unique_ptr<CmId> id, fabric::Bytes data, std::shared_ptr<void> place);
  ~ConnectionRequest() override;

  std::span<const uint8_t> private_data() const override { return data_; }
  std::string peer_address() const override { return peer_; }
  void reject(std::span<const uint8_t> private_data) override;

  // What is sent in the answer fits. Throws Error INVALID_ARGUMENT.
  void check_reply(std::span<const uint8_t> private_data) const;
  // Throws Error INVALID_ARGUMENT: it has been answered.
  const CmId& id() const {
    check_open();
    return *id_;
  }
  // For accepting. Throws Error INVALID_ARGUMENT.
  std::unique_ptr<CmId> take_id();

 private:
  void check_open() const;

  std::unique_ptr<CmId> id_;
  const fabric::Bytes data_;
  const std::string peer_;
  const std::shared_ptr<void> place_;
};

}  // namespace rdma_migrate::verbs
