#include "verbs/queue_pair.h"

#include <thread>

#include "fabric/address.h"
#include "verbs/connection_request.h"
#include "verbs/private_data.h"

namespace rdma_migrate::verbs {
namespace {

constexpr std::chrono::milliseconds kEndPause{1};

[[noreturn]] void bad_argument(const std::string& message) { throw Error("INVALID_ARGUMENT", message); }

}  // namespace

QueuePair::QueuePair(std::shared_ptr<DomainCore> core, const fabric::QueuePairOptions& options,
                     fabric::QueuePairEvents& events)
    : core_(std::move(core)),
      processor_(core_->processor()),
      options_(options),
      events_(events),
      queues_(options, core_->regions(), [this] { kick(); }) {
  info_.provider = "verbs";
}

void QueuePair::connect(const fabric::Endpoint& endpoint, std::span<const uint8_t> private_data) {
  check_private_data(private_data.size(), kMaxData);  // once the device is known, less
  Opening opening;
  opening.endpoint = endpoint;
  opening.private_data.assign(private_data.begin(), private_data.end());
  opening.peer = fabric::to_string(endpoint);
  std::lock_guard lock(mutex_);
  check_startable();
  start(std::move(opening));
}

void QueuePair::accept(std::unique_ptr<fabric::ConnectionRequest> request,
                       std::span<const uint8_t> private_data, bool may_send_at_once) {
  auto* const own = dynamic_cast<ConnectionRequest*>(request.get());
  if (own == nullptr) bad_argument("accept() of a request that came over another provider");
  own->check_reply(private_data);
  Opening opening;
  opening.peer = own->peer_address();
  opening.answer.emplace();
  opening.answer->request_data.assign(own->private_data().begin(), own->private_data().end());
  opening.answer->reply_data.assign(private_data.begin(), private_data.end());
  opening.answer->may_send_at_once = may_send_at_once;
  std::lock_guard lock(mutex_);
  check_startable();  // or the request is rejected as it goes
  opening.answer->id = own->take_id();
  start(std::move(opening));
}

// Under mutex_.
void QueuePair::check_startable() const {
  if (closed_ || draining_.load()) throw Error("CONNECTION_CLOSED", "the queue pair has been closed");
  if (started_) bad_argument("the queue pair has been started already");
}

// Under mutex_.
void QueuePair::start(Opening opening) {
  started_ = true;
  info_.peer_address = opening.peer;
  opening_ = std::move(opening);
  processor_.kick(*this);
}

// Kicked: something was asked for.
fabric::Served::Next QueuePair::serve(unsigned) noexcept {
  std::optional<Opening> opening;
  {
    std::lock_guard lock(mutex_);
    opening = std::exchange(opening_, std::nullopt);
  }
  if (opening) begin(std::move(*opening));
  if (notified_.exchange(false) && state_.load() != fabric::QueuePairState::kError) events_.on_notify();
  if (!carrier_) {
    if (draining_.load()) carrier_down(std::nullopt, false);
    return Next::kWait;
  }
  if (draining_.load()) {
    change(fabric::QueuePairChange::kDrain);
    carrier_->drain();
  }
  if (carrier_->serve(kKicked) == Next::kGoOn) processor_.resume(*carrier_);
  return Next::kWait;
}

void QueuePair::begin(Opening opening) noexcept {
  std::optional<Error> failure;
  try {
    carrier_ = std::make_unique<Carrier>(*core_, queues_, options_, static_cast<CarrierUser&>(*this),
                                         std::move(opening.peer));
    if (opening.answer) return carrier_->answer(std::move(*opening.answer));
    return carrier_->dial(opening.endpoint, std::move(opening.private_data));
  } catch (const Error& error) {
    failure = error;
  } catch (const std::exception& error) {
    failure = Error("INTERNAL", std::string("cannot begin the handshake: ") + error.what());
  }
  if (carrier_) return carrier_->end(failure);
  carrier_down(failure, false);
}

void QueuePair::change(fabric::QueuePairChange change) {
  if (const auto next = fabric::next_state(state_.load(), change)) state_.store(*next);
}

void QueuePair::notify() {
  if (!notified_.exchange(true)) kick();
}

void QueuePair::disconnect() {
  queues_.close_sends();
  draining_.store(true);
  kick();
}

// Never once close() has begun, whose last act is that the processor forgets this.
void QueuePair::kick() {
  std::lock_guard lock(mutex_);
  if (!closed_) processor_.kick(*this);
}

void QueuePair::close() {
  std::lock_guard one_at_a_time(close_mutex_);
  {
    std::lock_guard lock(mutex_);
    if (std::exchange(closed_, true)) return;
  }
  processor_.call([this] { end_here(); });
  wait_ended();
  processor_.call([this] {
    processor_.forget(*this);
    carrier_.reset();
  });
}

// On the processor. What was asked for and not begun is answered with a refusal, as its request goes.
void QueuePair::end_here() {
  std::optional<Opening> opening;
  {
    std::lock_guard lock(mutex_);
    opening = std::exchange(opening_, std::nullopt);
  }
  if (opening && opening->answer) rdma_reject(opening->answer->id->get(), nullptr, 0);
  if (carrier_) return carrier_->end(std::nullopt);
  carrier_down(std::nullopt, false);
}

// A device takes up to a second to give back what was posted. A thread that may not sleep meanwhile, because
// it is the one that looks for that, looks for it here.
void QueuePair::wait_ended() {
  std::unique_lock lock(mutex_);
  if (!processor_.is_here()) return has_ended_.wait(lock, [this] { return ended_; });
  while (!ended_) {
    lock.unlock();
    std::this_thread::sleep_for(kEndPause);
    carrier_->serve(kDue);
    lock.lock();
  }
}

fabric::QueuePairInfo QueuePair::info() const {
  std::lock_guard lock(mutex_);
  return info_;
}

void QueuePair::carrier_attached(DeviceQueuePair& queue_pair) {
  std::lock_guard lock(mutex_);
  info_.local_address = queue_pair.id().local_address();
  info_.peer_address = queue_pair.id().peer_address();
  info_.detail = queue_pair.description();
}

void QueuePair::carrier_up(std::span<const uint8_t> private_data) {
  change(fabric::QueuePairChange::kConnected);
  if (draining_.load()) change(fabric::QueuePairChange::kDrain);
  events_.on_established(private_data);
}

void QueuePair::carrier_sent(std::span<const fabric::Completion> completions) {
  events_.on_send(completions);
}

void QueuePair::carrier_received(std::span<const fabric::Completion> completions) {
  events_.on_recv(completions);
}

void QueuePair::carrier_down(const std::optional<Error>& reason, bool oldest_failed) noexcept {
  if (state_.load() == fabric::QueuePairState::kError) return;
  change(fabric::QueuePairChange::kEnd);
  queues_.detach();
  std::vector<fabric::Completion> completions;
  queues_.flush_sends(completions, oldest_failed);
  if (!completions.empty()) events_.on_send(completions);
  completions.clear();
  queues_.flush_recvs(completions);
  if (!completions.empty()) events_.on_recv(completions);
  events_.on_closed(reason ? &*reason : nullptr);
  // Under the lock: whoever waits may destroy this as soon as it has seen it.
  std::lock_guard lock(mutex_);
  ended_ = true;
  has_ended_.notify_all();
}

}  // namespace rdma_migrate::verbs
