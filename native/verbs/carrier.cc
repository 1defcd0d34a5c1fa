// The life of a carrier: route, handshake, and the take-down.
#include "verbs/carrier.h"

#include <cerrno>

#include "fabric/work_request.h"
#include "verbs/errors.h"
#include "verbs/leftovers.h"
#include "verbs/private_data.h"

namespace rdma_migrate::verbs {
namespace {

// What QEMU uses (qemu-rdma-protocol, section 1).
constexpr uint8_t kReadDepth = 2;
constexpr uint8_t kRetryCount = 5;
// No retries: a peer that keeps its turns has a RECV posted for every SEND, so a SEND that finds none is a
// broken protocol, and waiting would hide it. QEMU's peers break there as well.
constexpr uint8_t kRnrRetryCount = 0;

constexpr std::chrono::milliseconds kFlushPatience{1000};  // for a device to give posted requests back
constexpr std::chrono::milliseconds kPollPause{1};

}  // namespace

Carrier::Carrier(DomainCore& core, WorkQueues& queues, const fabric::QueuePairOptions& options,
                 CarrierUser& user, std::string peer)
    : core_(core),
      processor_(core.processor()),
      queues_(queues),
      options_(options),
      user_(user),
      peer_(std::move(peer)) {
  handshake_by_ = Clock::now() + std::chrono::milliseconds(options_.connect_timeout_ms);
}

Carrier::~Carrier() {
  // What may kick goes first.
  dialling_.reset();
  connect_call_.reset();
  device_events_.reset();
  processor_.forget(*this);
}

void Carrier::dial(const fabric::Endpoint& endpoint, fabric::Bytes private_data) {
  own_data_ = std::move(private_data);
  phase_ = Phase::kDialling;
  dialling_ = std::make_unique<Dialling>(endpoint, handshake_by_, processor_, *this);
  processor_.resume(*this);
}

void Carrier::answer(Answer answer) {
  passive_ = true;
  may_send_at_once_ = answer.may_send_at_once;
  own_data_ = std::move(answer.reply_data);
  request_data_ = std::move(answer.request_data);
  attach(std::move(answer.id));
  rdma_conn_param own = parameters(own_data_);
  if (rdma_accept(queue_pair_->id().get(), &own) != 0)
    throw Error("CONNECTION_LOST", "cannot accept the connection of " + peer_ + "; it may have given up",
                errno);
  phase_ = Phase::kHandshake;
  processor_.wake_by(*this, handshake_by_);
}

fabric::Served::Next Carrier::serve(unsigned reasons) noexcept {
  try {
    return work(reasons);
  } catch (const Error& error) {
    end(error);
  } catch (const std::exception& error) {
    end(Error("INTERNAL", std::string("the connection failed: ") + error.what()));
  }
  return Next::kWait;
}

fabric::Served::Next Carrier::work(unsigned reasons) {
  switch (phase_) {
    case Phase::kDialling:
      dial_on();
      break;
    case Phase::kConnecting:
      if (const auto result = connect_call_->result()) {
        connect_returned(*result);
      } else if (Clock::now() >= handshake_by_) {
        throw connect_call_error("rdma_connect", peer_, ETIMEDOUT);
      }
      break;
    case Phase::kHandshake:
      shake_hands();
      break;
    case Phase::kUp:
      return pump(reasons);
    case Phase::kFaulted:
    case Phase::kFlushing:
      flush_on();
      break;
    case Phase::kNew:
    case Phase::kDown:
      return Next::kWait;
  }
  return phase_ == Phase::kUp ? Next::kGoOn : Next::kWait;
}

void Carrier::dial_on() {
  std::unique_ptr<CmId> id = dialling_->advance();
  if (!id) return;
  dialling_.reset();
  if (!id->is_iwarp()) check_private_data(own_data_.size(), kMaxRequestData);
  attach(std::move(id));
  call_connect();
}

void Carrier::attach(std::unique_ptr<CmId> id) {
  std::shared_ptr<Device> device = core_.device_for(*id);
  queue_pair_ = std::make_shared<DeviceQueuePair>(std::move(device), std::move(id),
                                                  options_.max_send_wr + WorkQueues::kOwnRequests,
                                                  options_.max_recv_wr);
  device_events_.emplace(queue_pair_->device().context(), queue_pair_->handle(), processor_, *this);
  user_.carrier_attached(*queue_pair_);
  queues_.attach(queue_pair_);
  if (!processor_.watch(queue_pair_->id().fd(), *this) ||
      !processor_.watch(queue_pair_->completion_fd(), *this)) {
    throw Error("RESOURCE_LIMIT", "cannot watch the events of a connection to " + peer_, errno);
  }
}

rdma_conn_param Carrier::parameters(const fabric::Bytes& private_data) const {
  rdma_conn_param parameters{};
  parameters.private_data = private_data.data();
  parameters.private_data_len = static_cast<uint8_t>(private_data.size());
  parameters.responder_resources = kReadDepth;
  parameters.initiator_depth = kReadDepth;
  parameters.retry_count = kRetryCount;
  parameters.rnr_retry_count = kRnrRetryCount;
  return parameters;
}

void Carrier::call_connect() {
  rdma_conn_param own = parameters(own_data_);
  connecting_ = true;
  processor_.wake_by(*this, handshake_by_);
  // Only iWARP's waits.
  if (!queue_pair_->id().is_iwarp())
    return connect_returned(rdma_connect(queue_pair_->id().get(), &own) == 0 ? 0 : errno);
  phase_ = Phase::kConnecting;
  connect_call_ = std::make_unique<ConnectCall>(queue_pair_, own, [this] { processor_.kick(*this); });
}

void Carrier::connect_returned(int error_number) {
  connect_call_.reset();
  if (error_number != 0) {
    connecting_ = false;
    throw connect_call_error("rdma_connect", peer_, error_number);
  }
  phase_ = Phase::kHandshake;
  shake_hands();
}

void Carrier::shake_hands() {
  while (const std::optional<CmEvent> event = queue_pair_->id().next_event()) {
    if (event->type == RDMA_CM_EVENT_ADDR_CHANGE) continue;
    connecting_ = false;
    if (event->type != RDMA_CM_EVENT_ESTABLISHED)
      throw connect_event_error(*event, peer_, queue_pair_->id().is_iwarp());
    return establish(passive_ ? request_data_ : event->private_data);
  }
  if (Clock::now() >= handshake_by_) throw connect_call_error("the handshake", peer_, ETIMEDOUT);
  processor_.wake_by(*this, handshake_by_);
}

void Carrier::establish(const fabric::Bytes& private_data) {
  established_ = true;
  queues_.set_established();
  phase_ = Phase::kUp;
  progress_ = Clock::now();
  if (drain_since_) drain_since_ = progress_;  // the time for what is to be sent begins now
  if (passive_ && !may_send_at_once_ && queue_pair_->id().is_iwarp())
    first_send_ = progress_ + fabric::kFirstSendPause;
  user_.carrier_up(private_data);
  if (!first_send_) queues_.open_sends();
}

// May come again, with each kick of the queue pair.
void Carrier::drain() {
  draining_ = true;
  if (!drain_since_) drain_since_ = Clock::now();
}

void Carrier::end(const std::optional<Error>& reason) {
  if (phase_ == Phase::kFlushing || phase_ == Phase::kDown) return;
  reason_ = reason;
  queues_.detach();
  dialling_.reset();
  connect_call_.reset();
  phase_ = Phase::kFlushing;
  if (!established_) return down();
  queue_pair_->disconnect();
  flush_until_ = Clock::now() + kFlushPatience;
  flush_on();
}

// What had completed before the end counts; the device gives the rest back flushed, as far as it still
// answers. Of a queue pair that it has stopped, a request that failed says more than the device does.
void Carrier::flush_on() {
  while (poll_queues()) {
  }
  const Clock::time_point now = Clock::now();
  if (!queues_.device_idle() && now < flush_until_) return processor_.wake_by(*this, now + kPollPause);
  if (phase_ == Phase::kFaulted) return end(failure_ ? failure_ : reason_);
  down();
}

void Carrier::down() {
  phase_ = Phase::kDown;
  if (queue_pair_) {
    processor_.unwatch(queue_pair_->id().fd());
    processor_.unwatch(queue_pair_->completion_fd());
    if (established_) DeviceEvents::take(queue_pair_->device().context());
    device_events_.reset();
  }
  // Nobody waits for a handshake that has been given up.
  if (handshake_lingers()) {
    destroy_elsewhere(std::move(queue_pair_));
  } else if (queue_pair_) {
    queue_pair_->destroy();
  }
  queue_pair_.reset();
  user_.carrier_down(reason_, oldest_failed_);
}

bool Carrier::handshake_lingers() const { return connecting_ && queue_pair_->id().is_iwarp(); }

}  // namespace rdma_migrate::verbs
