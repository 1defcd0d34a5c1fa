#include "engine/rail.h"

#include <cstring>
#include <string>
#include <utility>

#include "engine/work_request_id.h"

namespace rdma_migrate::engine {
namespace {

constexpr uint32_t kMessageBytes = 12;

template <class T>
void put(uint8_t* to, T value) {
  for (size_t at = sizeof value; at-- > 0; value = static_cast<T>(value >> 8))
    to[at] = static_cast<uint8_t>(value);
}

template <class T>
T get(const uint8_t* from) {
  T value = 0;
  for (size_t at = 0; at < sizeof value; ++at) value = static_cast<T>(value << 8 | from[at]);
  return value;
}

}  // namespace

Rail::Rail(fabric::Domain& domain, const fabric::QueuePairOptions& options, BulkWriter& writer,
           RailOwner& owner, uint64_t id)
    : writer_(writer),
      owner_(owner),
      id_(id),
      max_outstanding_(options.max_send_wr - kSends),
      domain_(domain),
      slab_((kRecvs + kSends) * kSlotBytes, "a channel's buffers"),
      region_(domain.register_memory(slab_.address(), slab_.size(), fabric::kAccessLocalWrite)),
      queue_pair_(domain.create_queue_pair(options, *this)) {
  for (uint32_t slot = 0; slot < kRecvs; ++slot) post_recv(slot);
  for (uint32_t slot = 0; slot < kSends; ++slot) free_slots_.push_back(kRecvs + slot);
}

Rail::~Rail() { queue_pair_->close(); }

void Rail::post_recv(uint32_t slot) {
  fabric::RecvWorkRequest request;
  request.wr_id = slot;
  request.address = reinterpret_cast<uint64_t>(slot_at(slot));
  request.length = kSlotBytes;
  request.lkey = region_->lkey();
  queue_pair_->post_recv(request);
}

bool Rail::leave_out() {
  const bool carried = asks_.load() || queue_pair_->counters().write_bytes_placed > 0;
  return !carried && (lane_ == nullptr || writer_.remove(*lane_));
}

bool Rail::ask(uint64_t token) {
  asks_.store(true);
  {
    std::lock_guard lock(mutex_);
    asked_ = token;
  }
  return say(Kind::kBarrier, token);
}

bool Rail::say(Kind kind, uint64_t token) {
  uint32_t slot;
  {
    std::lock_guard lock(mutex_);
    if (free_slots_.size() <= (kind == Kind::kPassed ? kAsking : 0)) return false;
    slot = free_slots_.back();
    free_slots_.pop_back();
  }
  put(slot_at(slot), static_cast<uint32_t>(kind));
  put(slot_at(slot) + sizeof(uint32_t), token);
  fabric::SendWorkRequest request;
  request.wr_id = make_wr_id(Owner::kBarrier, slot);
  request.opcode = fabric::Opcode::kSend;
  request.address = reinterpret_cast<uint64_t>(slot_at(slot));
  request.length = kMessageBytes;
  request.lkey = region_->lkey();
  try {
    return queue_pair_->post_send(request);
  } catch (const Error&) {
    return false;  // it has ended, and on_closed tells why
  }
}

void Rail::on_established(std::span<const uint8_t> private_data) {
  lane_ = &writer_.add(domain_, *queue_pair_, max_outstanding_);
  owner_.rail_up(*this, private_data);
}

void Rail::on_send(std::span<const fabric::Completion> completions) {
  {
    std::lock_guard lock(mutex_);
    for (const fabric::Completion& completion : completions) {
      if (owner_of(completion.wr_id) == Owner::kBarrier)
        free_slots_.push_back(static_cast<uint32_t>(value_of(completion.wr_id)));
    }
  }
  if (lane_ != nullptr) writer_.on_send(*lane_, completions);
}

void Rail::on_notify() {
  if (lane_ != nullptr) writer_.on_notify(*lane_);
}

void Rail::on_recv(std::span<const fabric::Completion> completions) {
  for (const fabric::Completion& completion : completions) {
    // Flushed: on_closed tells why.
    if (completion.status == fabric::Status::kSuccess && !faulty_) take(completion);
  }
}

void Rail::take(const fabric::Completion& completion) {
  if (completion.byte_len != kMessageBytes)
    return fault("a message of " + std::to_string(completion.byte_len) + " bytes where a barrier has 12");
  const auto slot = static_cast<uint32_t>(completion.wr_id);
  const auto kind = get<uint32_t>(slot_at(slot));
  const auto token = get<uint64_t>(slot_at(slot) + sizeof kind);
  try {
    post_recv(slot);
  } catch (const Error&) {
    // It has ended, and on_closed tells why.
  }
  if (kind == static_cast<uint32_t>(Kind::kBarrier)) {
    asks_.store(true);
    // No room: answers pile up that the peer does not take, and it asks all the same.
    if (!say(Kind::kPassed, token) && queue_pair_->state() == fabric::QueuePairState::kRts)
      fault("barriers faster than it takes their answers");
    return;
  }
  if (kind != static_cast<uint32_t>(Kind::kPassed))
    return fault("a message of the unknown kind " + std::to_string(kind));
  if (!answers(token)) return fault("the answer to a barrier that it was not asked for");
  owner_.rail_passed(*this, token);
}

// Whether it is the one that was asked for. The owner is told without the lock: it may hold its own when it
// asks.
bool Rail::answers(uint64_t token) {
  std::lock_guard lock(mutex_);
  if (asked_ != token) return false;
  asked_.reset();
  return true;
}

void Rail::fault(const std::string& what) {
  faulty_ = true;
  owner_.rail_fault(*this, Error("PROTOCOL_ERROR", "the peer sent " + what));
}

void Rail::on_link_lost(const Error& reason) { owner_.rail_link_changed(*this, &reason); }

void Rail::on_link_restored() { owner_.rail_link_changed(*this, nullptr); }

void Rail::on_receive_failed(const Error& reason) { owner_.rail_receive_failed(*this, reason); }

void Rail::on_closed(const Error* reason) { owner_.rail_down(*this, reason); }

}  // namespace rdma_migrate::engine
