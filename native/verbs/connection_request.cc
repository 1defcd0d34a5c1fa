#include "verbs/connection_request.h"

#include "verbs/private_data.h"

namespace rdma_migrate::verbs {

void check_private_data(size_t size, size_t most) {
  if (size <= most) return;
  throw Error("INVALID_ARGUMENT", "private data of " + std::to_string(size) +
                                      " bytes; this RDMA device carries " + std::to_string(most) + " here");
}

ConnectionRequest::ConnectionRequest(std::unique_ptr<CmId> id, fabric::Bytes data,
                                     std::shared_ptr<void> place)
    : id_(std::move(id)), data_(std::move(data)), peer_(id_->peer_address()), place_(std::move(place)) {}

ConnectionRequest::~ConnectionRequest() {
  if (id_) rdma_reject(id_->get(), nullptr, 0);
}

void ConnectionRequest::check_open() const {
  if (!id_)
    throw Error("INVALID_ARGUMENT", "the connection request from " + peer_ + " has been answered already");
}

void ConnectionRequest::reject(std::span<const uint8_t> private_data) {
  check_open();
  check_private_data(private_data.size(), id_->is_iwarp() ? kMaxData : kMaxRejectData);
  rdma_reject(id_->get(), private_data.data(), static_cast<uint8_t>(private_data.size()));
  id_.reset();
}

void ConnectionRequest::check_reply(std::span<const uint8_t> private_data) const {
  check_open();
  check_private_data(private_data.size(), id_->is_iwarp() ? kMaxData : kMaxReplyData);
}

std::unique_ptr<CmId> ConnectionRequest::take_id() {
  check_open();
  id_->drop_count();
  return std::move(id_);
}

}  // namespace rdma_migrate::verbs
