// The life of a connection on its thread: route, handshake, the reason of the end, and the take-down.
#include <cerrno>
#include <thread>

#include "thread.h"
#include "verbs/connection.h"
#include "verbs/errors.h"

namespace rdma_migrate::verbs {
namespace {

// What QEMU uses (qemu-rdma-protocol, section 1).
constexpr uint8_t kReadDepth = 2;
constexpr uint8_t kRetryCount = 5;
// No retries: a peer that keeps its turns has a RECV posted for every SEND, so a SEND that finds none is a
// broken protocol, and waiting would hide it. QEMU's peers break there as well.
constexpr uint8_t kRnrRetryCount = 0;

constexpr size_t kMaxRequestData = 56;  // InfiniBand and RoCE

// MPA (RFC 5044 section 7.1.2) lets the initiator speak first, and in a migration the passive side does. siw
// gives up a connection whose first message comes together with the MPA reply, so it must not catch up with
// the reply.
constexpr std::chrono::milliseconds kFirstSendPause{200};

constexpr std::chrono::milliseconds kFlushPatience{1000};  // for a device to give posted requests back
constexpr std::chrono::milliseconds kPollPause{1};

// Requests that the connection itself posts: see probe().
constexpr uint32_t kOwnRequests = 1;

}  // namespace

// rdma_connect() may take minutes: siw's connects its TCP socket in it. Its thread is left alone with what it
// needs when nobody waits any more.
struct Connection::ConnectCall {
  std::shared_ptr<QueuePair> queue_pair;
  fabric::Bytes private_data;
  rdma_conn_param parameters{};
  WakeEvent finished;
  std::atomic<int> error_number{0};

  void run() {
    if (rdma_connect(queue_pair->id().get(), &parameters) != 0) error_number = errno;
    finished.signal();
  }
};

void Connection::run() noexcept {
  std::optional<Error> reason;
  try {
    reason = live();
  } catch (const Stopped&) {
  } catch (const Error& error) {
    reason = error;
  } catch (const std::exception& error) {
    reason = Error("INTERNAL", std::string("the connection's thread failed: ") + error.what());
  }
  finish(reason);
}

std::optional<Error> Connection::live() {
  const Clock::time_point deadline = Clock::now() + std::chrono::milliseconds(options_.connect_timeout_ms);
  if (opening_ == Opening::kReject) {
    rdma_reject(queue_pair_->id().get(), own_data_.data(), static_cast<uint8_t>(own_data_.size()));
    return std::nullopt;
  }
  if (opening_ == Opening::kConnect) {
    open_active(deadline);
  } else {
    call_accept();
  }
  establish(wait_established(deadline));
  return pump();
}

void Connection::open_active(Clock::time_point deadline) {
  std::unique_ptr<CmId> id = resolve(deadline);
  if (!id->is_iwarp()) check_private_data(own_data_.size(), kMaxRequestData);
  make_queue_pair(std::move(id));
  call_connect(deadline);
}

std::unique_ptr<CmId> Connection::resolve(Clock::time_point deadline) {
  const std::vector<fabric::SocketAddress> addresses = look_up(endpoint_, cancel(deadline));
  return fabric::open_first(addresses, [&](const auto& address, size_t left) {
    return resolve_one(address, fabric::share_of_time(deadline, left));
  });
}

std::unique_ptr<CmId> Connection::resolve_one(const fabric::SocketAddress& address,
                                              Clock::time_point deadline) {
  const std::string name = fabric::to_string(address);
  auto id = std::make_unique<CmId>();
  auto* target = const_cast<sockaddr*>(address.get());
  const auto check = [&](int result, const char* call, rdma_cm_event_type wanted) {
    if (result != 0) throw resolve_call_error(call, name, errno);
    const std::optional<CmEvent> event = wait_event(*id, cancel(deadline));
    if (!event) throw connect_call_error(call, name, ETIMEDOUT);
    if (event->type != wanted) throw connect_event_error(*event, name, id->is_iwarp());
  };
  check(rdma_resolve_addr(id->get(), nullptr, target, poll_timeout(deadline)), "rdma_resolve_addr",
        RDMA_CM_EVENT_ADDR_RESOLVED);
  if (id->get()->verbs == nullptr) throw no_device_error(name, 0);
  check(rdma_resolve_route(id->get(), poll_timeout(deadline)), "rdma_resolve_route",
        RDMA_CM_EVENT_ROUTE_RESOLVED);
  return id;
}

void Connection::make_queue_pair(std::unique_ptr<CmId> id) {
  auto made =
      std::make_shared<QueuePair>(std::move(id), options_.max_send_wr + kOwnRequests, options_.max_recv_wr);
  regions_->bind(made);
  {
    std::lock_guard lock(mutex_);
    info_.local_address = made->id().local_address();
    info_.peer_address = made->id().peer_address();
    info_.detail = made->description();
  }
  std::lock_guard lock(recv_mutex_);
  queue_pair_ = std::move(made);
  recvs_open_ = true;
  give_recvs();
}

rdma_conn_param Connection::parameters() const {
  rdma_conn_param parameters{};
  parameters.private_data = own_data_.data();
  parameters.private_data_len = static_cast<uint8_t>(own_data_.size());
  parameters.responder_resources = kReadDepth;
  parameters.initiator_depth = kReadDepth;
  parameters.retry_count = kRetryCount;
  parameters.rnr_retry_count = kRnrRetryCount;
  return parameters;
}

void Connection::call_connect(Clock::time_point deadline) {
  auto call = std::make_shared<ConnectCall>();
  call->queue_pair = queue_pair_;
  call->private_data = own_data_;
  call->parameters = parameters();
  call->parameters.private_data = call->private_data.data();
  std::thread caller = start_thread([call] { call->run(); });
  connecting_ = true;
  bool returned = false;
  try {
    returned = wait_readable(call->finished.fd(), cancel(deadline));
  } catch (...) {
    caller.detach();
    throw;
  }
  if (!returned) {
    caller.detach();
    throw connect_call_error("rdma_connect", peer_, ETIMEDOUT);
  }
  caller.join();
  if (call->error_number == 0) return;
  connecting_ = false;
  throw connect_call_error("rdma_connect", peer_, call->error_number);
}

void Connection::call_accept() {
  rdma_conn_param own = parameters();
  if (rdma_accept(queue_pair_->id().get(), &own) == 0) return;
  throw Error("CONNECTION_LOST", "cannot accept the connection of " + peer_ + "; it may have given up",
              errno);
}

fabric::Bytes Connection::wait_established(Clock::time_point deadline) {
  for (;;) {
    std::optional<CmEvent> event = wait_event(queue_pair_->id(), cancel(deadline));
    if (!event) throw connect_call_error("the handshake", peer_, ETIMEDOUT);
    if (event->type == RDMA_CM_EVENT_ADDR_CHANGE) continue;
    connecting_ = false;
    if (event->type == RDMA_CM_EVENT_ESTABLISHED) return passive_ ? request_data_ : event->private_data;
    throw connect_event_error(*event, peer_, queue_pair_->id().is_iwarp());
  }
}

void Connection::establish(const fabric::Bytes& private_data) {
  established_ = true;
  device_events_.emplace(queue_pair_->device(), queue_pair_->handle(), wake_);
  events_.on_established(private_data);
  if (passive_ && queue_pair_->id().is_iwarp()) wait_readable(-1, cancel(Clock::now() + kFirstSendPause));
  std::lock_guard lock(send_mutex_);
  sends_open_ = true;
  give_sends();
}

void Connection::finish(const std::optional<Error>& reason) {
  {
    std::lock_guard lock(send_mutex_);
    sends_ended_ = true;
    sends_open_ = false;
  }
  {
    std::lock_guard lock(recv_mutex_);
    recvs_ended_ = true;
    recvs_open_ = false;
  }
  if (established_) {
    queue_pair_->disconnect();
    drain_completions();
    device_events_->take();
    queue_pair_->destroy();
    device_events_.reset();
  } else if (queue_pair_ && !handshake_lingers()) {
    queue_pair_->destroy();
  }
  std::vector<fabric::Completion> completions;
  send_ring_.flush(completions, oldest_failed_);
  for (const fabric::Completion& completion : completions) events_.on_send(completion);
  completions.clear();
  recv_ring_.flush(completions);
  for (const fabric::Completion& completion : completions) events_.on_recv(completion);
  events_.on_closed(reason ? &*reason : nullptr);
  // Memory after the queue pair, the protection domain after memory: QueuePair goes with its last owner.
  regions_->unbind();
  release_queue_pair();
}

// An iWARP driver's destructors wait for the handshake's end, siw's up to ten seconds.
bool Connection::handshake_lingers() const { return connecting_ && queue_pair_->id().is_iwarp(); }

// Nobody waits for a handshake that has been given up. No memory is registered with its queue pair any more.
void Connection::release_queue_pair() {
  if (handshake_lingers()) {
    try {
      start_thread([queue_pair = std::move(queue_pair_)]() mutable { queue_pair.reset(); }).detach();
    } catch (const Error&) {
      // No thread is to be had: it has gone on this one, which had to wait for it.
    }
  }
  queue_pair_.reset();
}

// What had completed before the end counts; the device gives the rest back flushed, as far as it still
// answers.
void Connection::drain_completions() {
  const Clock::time_point until = Clock::now() + kFlushPatience;
  for (;;) {
    if (poll_queues()) continue;
    bool idle;
    {
      std::scoped_lock lock(send_mutex_, recv_mutex_);
      idle = send_ring_.device_idle() && recv_ring_.device_idle();
    }
    if (idle || Clock::now() >= until) return;
    std::this_thread::sleep_for(kPollPause);
  }
}

}  // namespace rdma_migrate::verbs
