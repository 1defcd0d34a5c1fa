#include "engine/endpoint.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "engine/work_request_id.h"

namespace rdma_migrate::engine {

Slab::Slab(size_t size) : size_(size) {
  void* mapped = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) {
    throw Error("OUT_OF_MEMORY",
                "no room for the " + std::to_string(size) + " bytes of a connection's buffers", errno);
  }
  data_ = static_cast<uint8_t*>(mapped);
}

Slab::~Slab() { munmap(data_, size_); }

Endpoint::Endpoint(const MakeConnection& make_connection, uint32_t max_send_wr, EndpointObserver& observer)
    : observer_(observer),
      slab_(size_t{kRecvSlots + kSendSlots} * kMaxControlMessage),
      // The control messages' share of the send queue stays free, so bulk data can never keep one waiting for
      // a slot.
      writer_(max_send_wr - kSendSlots) {
  connection_ = make_connection(*this);
  region_ = connection_->register_memory(reinterpret_cast<uint64_t>(slab_.data()), slab_.size(),
                                         fabric::kAccessLocalWrite);
  for (uint32_t slot = 0; slot < kRecvSlots; ++slot) post_recv(slot);
  for (uint32_t slot = 0; slot < kSendSlots; ++slot) free_send_slots_.push_back(slot);
  writer_.start(*connection_);
  ready_ = true;
}

Endpoint::~Endpoint() { close(); }

void Endpoint::post_recv(uint32_t slot) {
  fabric::RecvWorkRequest request;
  request.wr_id = slot;
  request.address = reinterpret_cast<uint64_t>(slot_address(slot));
  request.length = kMaxControlMessage;
  request.lkey = region_->lkey();
  connection_->post_recv(request);
}

std::optional<uint32_t> Endpoint::claim_send_slot(uint64_t token) {
  std::lock_guard lock(mutex_);
  if (free_send_slots_.empty()) return std::nullopt;
  const uint32_t slot = free_send_slots_.back();
  free_send_slots_.pop_back();
  send_tokens_[slot] = token;
  return slot;
}

bool Endpoint::send(std::span<const uint8_t> message, uint64_t token) {
  if (message.size() > kMaxControlMessage) {
    throw Error("INVALID_ARGUMENT", "a control message is at most " + std::to_string(kMaxControlMessage) +
                                        " bytes; this one has " + std::to_string(message.size()));
  }
  const auto slot = claim_send_slot(token);
  if (!slot) return false;
  uint8_t* buffer = slot_address(kRecvSlots + *slot);
  if (!message.empty()) std::memcpy(buffer, message.data(), message.size());

  fabric::SendWorkRequest request;
  request.wr_id = make_wr_id(Owner::kControl, *slot);
  request.opcode = fabric::Opcode::kSend;
  request.address = reinterpret_cast<uint64_t>(buffer);
  request.length = static_cast<uint32_t>(message.size());
  request.lkey = region_->lkey();
  const auto give_back = [&] {
    std::lock_guard lock(mutex_);
    free_send_slots_.push_back(*slot);
  };
  try {
    if (connection_->post_send(request)) return true;
  } catch (...) {
    give_back();
    throw;
  }
  give_back();
  return false;
}

std::optional<fabric::Bytes> Endpoint::take_message() {
  Arrived arrived;
  {
    std::lock_guard lock(mutex_);
    if (arrived_.empty()) return std::nullopt;
    arrived = arrived_.front();
    arrived_.pop_front();
  }
  const uint8_t* data = slot_address(arrived.slot);
  fabric::Bytes message(data, data + arrived.length);
  try {
    post_recv(arrived.slot);
  } catch (const Error& error) {
    // The message arrived before the connection ended; that it ended is reported by closed().
    if (error.code() != "CONNECTION_CLOSED") throw;
  }
  return message;
}

void Endpoint::close() {
  // The writer's thread may wait for completions that only the connection's end brings.
  writer_.cancel();
  connection_->close();
  writer_.join();
}

void Endpoint::on_established(std::span<const uint8_t> private_data) {
  observer_.established(fabric::Bytes(private_data.begin(), private_data.end()));
}

void Endpoint::on_send(const fabric::Completion& completion) {
  if (owner_of(completion.wr_id) == Owner::kBulkWriter) {
    writer_.completed(completion);
    return;
  }
  const auto slot = static_cast<uint32_t>(value_of(completion.wr_id));
  uint64_t token;
  {
    std::lock_guard lock(mutex_);
    token = send_tokens_[slot];
    free_send_slots_.push_back(slot);
  }
  observer_.message_sent(token, completion.status == fabric::Status::kSuccess);
}

void Endpoint::on_recv(const fabric::Completion& completion) {
  if (completion.status != fabric::Status::kSuccess) return;  // flushed: on_closed tells why
  {
    std::lock_guard lock(mutex_);
    arrived_.push_back({static_cast<uint32_t>(completion.wr_id), completion.byte_len});
  }
  observer_.message_arrived();
}

void Endpoint::on_receive_failed(const Error& reason) { observer_.receive_failed(reason); }

void Endpoint::on_closed(const Error* reason) {
  writer_.connection_ended();
  if (!ready_) return;
  observer_.closed(reason == nullptr ? std::nullopt : std::optional<Error>(*reason));
}

}  // namespace rdma_migrate::engine
