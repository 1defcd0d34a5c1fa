#include "engine/endpoint.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "engine/work_request_id.h"

namespace rdma_migrate::engine {
namespace {

// When a peer ends, its queue pairs end one after the other, and the control queue pair knows more: it is
// given this long to say so before the end of a rail is told.
constexpr std::chrono::milliseconds kLastWords{500};

// For the user of an endpoint that has failed on this side to tell the peer why.
constexpr std::chrono::seconds kOwnLastWords{5};

fabric::Bytes copy_of(std::span<const uint8_t> bytes) { return {bytes.begin(), bytes.end()}; }

// What failed here and not on the way or at the peer: memory, its file, or what was posted; and what only
// this side can find out.
bool is_of_this_side(const Error& reason) {
  static constexpr std::string_view kCodes[] = {"IO_ERROR",      "DISK_FULL",      "PERMISSION_DENIED",
                                                "OUT_OF_MEMORY", "RESOURCE_LIMIT", "INVALID_ARGUMENT",
                                                "INTERNAL",      "INTEGRITY_ERROR"};
  return std::find(std::begin(kCodes), std::end(kCodes), reason.code()) != std::end(kCodes);
}

}  // namespace

// The control messages' share of the send queue stays free, so bulk data can never keep one waiting for a
// slot.
Endpoint::Endpoint(std::unique_ptr<fabric::Domain> domain, const fabric::QueuePairOptions& options,
                   EndpointObserver& observer)
    : options_(options),
      observer_(observer),
      slab_(size_t{kRecvSlots + kSendSlots} * kMaxControlMessage, "a connection's buffers"),
      domain_(std::move(domain)),
      region_(domain_->register_memory(slab_.address(), slab_.size(), fabric::kAccessLocalWrite)),
      queue_pair_(domain_->create_queue_pair(options, *this)),
      lane_(&writer_.add(*domain_, *queue_pair_, options.max_send_wr - kSendSlots)) {
  for (uint32_t slot = 0; slot < kRecvSlots; ++slot) post_recv(slot);
  for (uint32_t slot = 0; slot < kSendSlots; ++slot) free_send_slots_.push_back(slot);
  std::lock_guard lock(telling_);
  ready_ = true;
}

Endpoint::~Endpoint() { close(); }

void Endpoint::post_recv(uint32_t slot) {
  fabric::RecvWorkRequest request;
  request.wr_id = slot;
  request.address = reinterpret_cast<uint64_t>(slot_address(slot));
  request.length = kMaxControlMessage;
  request.lkey = region_->lkey();
  queue_pair_->post_recv(request);
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
    if (queue_pair_->post_send(request)) return true;
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

// Made without the lock, and destroyed without it when there is no use for it: a queue pair that goes waits
// for its processing thread, which may be about to take the lock.
fabric::QueuePair& Endpoint::add_rail(fabric::QueuePairOptions options, uint64_t token,
                                      const std::optional<fabric::Protection>& protection) {
  options.hold_until_protected = false;  // a rail is protected from its first byte on, or not at all
  auto rail = std::make_unique<Rail>(*domain_, options, writer_, static_cast<RailOwner&>(*this), token);
  if (protection) rail->queue_pair().protect(*protection);
  std::lock_guard lock(mutex_);
  if (closed_) throw Error("CONNECTION_CLOSED", "the connection has been closed");
  if (!alarm_) alarm_ = std::make_unique<Alarm>(*queue_pair_);
  rails_.push_back(std::move(rail));
  return rails_.back()->queue_pair();
}

void Endpoint::connect_rail(const fabric::Endpoint& to, std::span<const uint8_t> private_data,
                            uint32_t connect_timeout_ms, uint64_t token,
                            const std::optional<fabric::Protection>& protection) {
  fabric::QueuePairOptions options = options_;
  options.connect_timeout_ms = connect_timeout_ms;
  fabric::QueuePair& queue_pair = add_rail(options, token, protection);
  if (large_segments_.load()) queue_pair.allow_large_segments();
  queue_pair.connect(to, private_data);
}

// Its first message is the answer to one of the peer's.
void Endpoint::accept_rail(std::unique_ptr<fabric::ConnectionRequest> request,
                           std::span<const uint8_t> private_data, uint64_t token,
                           const std::optional<fabric::Protection>& protection) {
  add_rail(options_, token, protection).accept(std::move(request), private_data, true);
}

void Endpoint::allow_large_segments() {
  large_segments_.store(true);
  queue_pair_->allow_large_segments();
}

size_t Endpoint::rails() const {
  std::lock_guard lock(mutex_);
  return up_.size() + (queue_pair_->state() == fabric::QueuePairState::kInit ? 0 : 1);
}

void Endpoint::barrier(uint64_t token) {
  {
    std::lock_guard lock(mutex_);
    barriers_.ask(token);
  }
  run_barriers();
}

void Endpoint::release_rails() {
  std::lock_guard lock(mutex_);
  rails_released_ = true;
  loss_.reset();
}

void Endpoint::run_barriers() {
  for (;;) {
    std::vector<uint64_t> passed;
    {
      std::lock_guard lock(mutex_);
      if (barriers_.begin()) {
        for (Rail* rail : up_) {
          // One that cannot be asked has ended, and the endpoint does.
          barriers_.asked();
          rail->ask(barriers_.token());
        }
      }
      passed = barriers_.take_passed();
    }
    if (passed.empty()) return;
    for (const uint64_t waiter : passed) tell([&] { observer_.barrier_passed(waiter); });
  }
}

Endpoint::Totals Endpoint::totals() const {
  Totals totals;
  const auto add = [&totals](const fabric::QueuePair& queue_pair) {
    const fabric::Counters& counters = queue_pair.counters();
    totals.bytes_sent += counters.bytes_sent;
    totals.bytes_received += counters.bytes_received;
    totals.write_bytes_placed += counters.write_bytes_placed;
    totals.payload_received += counters.payload_received;
    totals.resumes += counters.resumes;
    totals.payload_resent += counters.payload_resent;
    totals.wire_time = std::max(totals.wire_time, queue_pair.wire_time());
  };
  std::lock_guard lock(mutex_);
  add(*queue_pair_);
  for (const auto& rail : rails_) add(rail->queue_pair());
  return totals;
}

void Endpoint::close() {
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
  }
  writer_.cancel();
  queue_pair_->close();
  for (const auto& rail : rails_) rail->queue_pair().close();
  writer_.join();
  std::vector<std::shared_ptr<const void>> kept;
  {
    std::lock_guard lock(mutex_);
    kept.swap(kept_);
  }
}

void Endpoint::keep(std::shared_ptr<const void> memory) {
  std::lock_guard lock(mutex_);
  if (closed_) throw Error("CONNECTION_CLOSED", "the connection has been closed");
  kept_.push_back(std::move(memory));
}

void Endpoint::settle_in(EndpointTenant& tenant) {
  std::lock_guard lock(telling_);
  tenant_ = &tenant;
  pass_on();
  if (ended_) tenant.ended(end_reason_ ? &*end_reason_ : nullptr);
}

void Endpoint::settle_out() {
  std::lock_guard lock(telling_);
  tenant_ = nullptr;
}

void Endpoint::pass_on() {
  while (const auto message = take_message()) tenant_->message(*message);
}

template <class Call>
void Endpoint::tell(const Call& call) {
  std::lock_guard lock(telling_);
  if (ready_ && !ended_) call();
}

void Endpoint::end(std::optional<Error> reason) {
  std::lock_guard lock(telling_);
  if (!ready_ || std::exchange(ended_, true)) return;
  end_reason_ = reason;
  if (tenant_ != nullptr) tenant_->ended(reason ? &*reason : nullptr);
  observer_.closed(std::move(reason));
}

void Endpoint::on_established(std::span<const uint8_t> private_data) {
  tell([&] { observer_.established(copy_of(private_data)); });
}

void Endpoint::on_send(std::span<const fabric::Completion> completions) {
  for (const fabric::Completion& completion : completions) {
    if (owner_of(completion.wr_id) == Owner::kStream && completion.status == fabric::Status::kSuccess) {
      tell([&] {
        if (tenant_ != nullptr) tenant_->written(value_of(completion.wr_id));
      });
    }
    if (owner_of(completion.wr_id) != Owner::kControl) continue;
    const auto slot = static_cast<uint32_t>(value_of(completion.wr_id));
    uint64_t token;
    {
      std::lock_guard lock(mutex_);
      token = send_tokens_[slot];
      free_send_slots_.push_back(slot);
    }
    tell([&] {
      if (token != kNobody) {
        observer_.message_sent(token, completion.status == fabric::Status::kSuccess);
      } else if (tenant_ != nullptr) {
        tenant_->sent();
      }
    });
  }
  writer_.on_send(*lane_, completions);
}

void Endpoint::on_recv(std::span<const fabric::Completion> completions) {
  for (const fabric::Completion& completion : completions) {
    if (completion.status != fabric::Status::kSuccess) continue;  // flushed: on_closed tells why
    {
      std::lock_guard lock(mutex_);
      arrived_.push_back({static_cast<uint32_t>(completion.wr_id), completion.byte_len});
    }
    tell([&] {
      if (tenant_ != nullptr) return pass_on();
      observer_.message_arrived();
    });
  }
}

void Endpoint::on_notify() {
  writer_.on_notify(*lane_);
  std::optional<Error> lost;
  {
    std::lock_guard lock(mutex_);
    if (loss_ && loss_->until <= Clock::now()) {
      lost = loss_->reason;
    } else if (loss_ && !closed_) {
      alarm_->ring_by(loss_->until);  // it may have rung for one that is told no more
    }
  }
  if (lost) end(std::move(lost));
}

void Endpoint::on_link_lost(const Error& reason) {
  tell([&] { observer_.link_changed(1, reason); });
}

void Endpoint::on_link_restored() {
  tell([&] { observer_.link_changed(1, std::nullopt); });
}

void Endpoint::on_receive_failed(const Error& reason) {
  tell([&] { observer_.receive_failed(reason); });
}

void Endpoint::on_closed(const Error* reason) {
  writer_.connection_ended();
  std::optional<Error> why;
  {
    std::lock_guard lock(mutex_);
    if (loss_ && loss_->certain) {
      why = loss_->reason;
    } else if (reason != nullptr) {
      why = *reason;
    } else if (loss_ && loss_->broken) {
      why = loss_->reason;
    }
  }
  end(std::move(why));
}

void Endpoint::rail_up(Rail& rail, std::span<const uint8_t> private_data) {
  {
    std::lock_guard lock(mutex_);
    up_.push_back(&rail);
  }
  tell([&] { observer_.rail_established(rail.id(), copy_of(private_data)); });
}

void Endpoint::rail_passed(Rail&, uint64_t token) {
  {
    std::lock_guard lock(mutex_);
    if (token == barriers_.token()) barriers_.answered();
  }
  run_barriers();
}

// Of one that was established, under the lock.
std::optional<uint32_t> Endpoint::number_of(const Rail& rail) const {
  const auto found = std::find(up_.begin(), up_.end(), &rail);
  if (found == up_.end()) return std::nullopt;
  return static_cast<uint32_t>(found - up_.begin()) + 2;
}

// "channel 2 of 4", or "" for one that was never established.
std::string Endpoint::channel(const Rail& rail) const {
  std::lock_guard lock(mutex_);
  const auto number = number_of(rail);
  if (!number) return "";
  return "channel " + std::to_string(*number) + " of " + std::to_string(up_.size() + 1);
}

void Endpoint::rail_link_changed(Rail& rail, const Error* lost) {
  std::optional<uint32_t> number;
  {
    std::lock_guard lock(mutex_);
    number = number_of(rail);
  }
  if (number) tell([&] { observer_.link_changed(*number, lost ? std::optional(*lost) : std::nullopt); });
}

void Endpoint::rail_fault(Rail& rail, const Error& reason) {
  if (released()) return;
  const Error named(reason.code(), channel(rail) + ": " + reason.what());
  lose({named, Clock::now() + kOwnLastWords, true, true});
  tell([&] { observer_.receive_failed(named); });
}

void Endpoint::rail_receive_failed(Rail& rail, const Error& reason) {
  if (released()) return;
  const Error named(reason.code(), channel(rail) + ": " + reason.what());
  tell([&] { observer_.receive_failed(named); });
}

void Endpoint::rail_down(Rail& rail, const Error* reason) {
  const std::string name = channel(rail);
  if (name.empty()) {
    const Error why = reason != nullptr ? *reason : Error("CONNECTION_CLOSED", "the channel was closed");
    return tell([&] { observer_.rail_refused(rail.id(), why); });
  }
  // What fails on this side, and what a peer does wrong, is no end that comes too late.
  const bool own = reason != nullptr && is_of_this_side(*reason);
  // Whoever cannot seal for it may be anybody: a rail that has proved nothing is not the peer's.
  const bool gone = reason == nullptr || reason->code() == "CONNECTION_LOST" || reason->code() == "TIMEOUT" ||
                    reason->code() == "INTEGRITY_ERROR";
  if ((gone && left_out(rail)) || released()) return;
  const auto now = Clock::now();
  if (reason == nullptr) {
    const Error closed("CONNECTION_LOST", name + " is lost: the peer closed it");
    return lose({closed, now + kLastWords, false, false});
  }
  const Error named(reason->code(), name + " is lost: " + reason->what());
  if (!own) return lose({named, now + kLastWords, true, false});
  lose({named, now + kOwnLastWords, true, true});
  tell([&] { observer_.receive_failed(named); });
}

bool Endpoint::released() const {
  std::lock_guard lock(mutex_);
  return rails_released_;
}

// Not by a rail that a barrier asks: it is in up_, and asked, under the same lock.
bool Endpoint::left_out(Rail& rail) {
  std::lock_guard lock(mutex_);
  if (!rail.leave_out()) return false;
  std::erase(up_, &rail);
  return true;
}

void Endpoint::lose(const Loss& loss) {
  {
    std::lock_guard lock(mutex_);
    if (rails_released_) return;
  }
  writer_.connection_ended();
  {
    std::lock_guard lock(mutex_);
    if (rails_released_) return;
    if (!loss_ || (loss.certain && !loss_->certain)) loss_ = loss;
    if (!closed_) alarm_->ring_by(loss_->until);
  }
}

}  // namespace rdma_migrate::engine
