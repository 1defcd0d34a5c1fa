#include "iwarp/queue_pair.h"

#include "crypto/libcrypto.h"
#include "fabric/address.h"
#include "fabric/work_request.h"
#include "iwarp/connection_request.h"
#include "iwarp/tcp_info.h"

namespace rdma_migrate::iwarp {
namespace {

[[noreturn]] void bad_argument(const std::string& message) { throw Error("INVALID_ARGUMENT", message); }

}  // namespace

QueuePair::QueuePair(std::shared_ptr<RegionTable> regions, const fabric::QueuePairOptions& options,
                     fabric::QueuePairEvents& events)
    : engine_(regions->shared_engine()),
      processor_(engine_->least_loaded()),
      messages_(options, events, std::move(regions), static_cast<LoggedUser*>(this)) {
  if (options.resume_window_ms != 0) {
    crypto::libcrypto();  // what is missing is said here
    resumption_.emplace();
  }
  ++processor_.load;
  info_.provider = "iwarp";
}

QueuePair::~QueuePair() {
  close();
  --processor_.load;
}

void QueuePair::connect(const fabric::Endpoint& endpoint, std::span<const uint8_t> private_data) {
  Opening opening;
  opening.endpoint = endpoint;
  opening.private_data.assign(private_data.begin(), private_data.end());
  opening.peer = fabric::to_string(endpoint);
  {
    std::lock_guard lock(mutex_);
    check_startable();
    if (resumption_) ask(opening.private_data);
  }
  // Refuses private data that is too long, here.
  encode(make_request(messages_.options, opening.private_data, 2));
  start(std::move(opening));
}

void QueuePair::accept(std::unique_ptr<fabric::ConnectionRequest> request,
                       std::span<const uint8_t> private_data, bool may_send_at_once) {
  auto* const own = dynamic_cast<ConnectionRequest*>(request.get());
  if (own == nullptr) bad_argument("accept() of a request that came over another provider");
  fabric::Bytes reply_data(private_data.begin(), private_data.end());
  {
    // A request that cannot be taken is rejected, not dropped.
    std::lock_guard lock(mutex_);
    check_startable();
    const bool asked = own->asks_resumable() || messages_.options.resume_is_asked;
    if (resumption_ && asked) grant(reply_data);
  }
  if (may_send_at_once) allow_large_segments();
  Opening opening;
  opening.peer = own->peer_address();
  opening.answer = own->accept(messages_.options, reply_data, may_send_at_once);
  start(std::move(opening));
}

void QueuePair::start(Opening opening) {
  std::lock_guard lock(mutex_);
  check_startable();
  started_ = true;
  opening.protection = std::exchange(protection_, std::nullopt);
  info_.peer_address = opening.peer;
  opening_ = std::move(opening);
  processor_.kick(*this);
}

void QueuePair::check_startable() const {
  if (closed_ || draining_.load()) throw Error("CONNECTION_CLOSED", "the queue pair has been closed");
  if (started_) bad_argument("the queue pair has been started already");
}

// Kicked: something was posted, or asked for.
Served::Next QueuePair::serve(unsigned) noexcept {
  std::optional<Opening> opening;
  {
    std::lock_guard lock(mutex_);
    opening = std::exchange(opening_, std::nullopt);
  }
  if (opening) begin(std::move(*opening));
  if (notified_.exchange(false) && !ended_) messages_.events.on_notify();
  if (resumption_) {
    take_arrivals();
    const Clock::time_point now = Clock::now();
    look_after_move(now);
    look_after_following(now);
  }
  if (state() == fabric::QueuePairState::kSuspended) {
    look_after_link();
    return Next::kWait;
  }
  if (!carrier_) {
    if (draining_.load()) carrier_down(std::nullopt);
    return Next::kWait;
  }
  if (unannounced_ && Clock::now() >= announce_by_) {
    carrier_->abandon(Error("TIMEOUT", "the peer has answered, and said nothing since"));
    return Next::kWait;
  }
  if (draining_.load()) drain();
  if (carrier_->serve(kKicked) == Next::kGoOn) processor_.resume(*carrier_);
  return Next::kWait;
}

// However many carriers it takes.
void QueuePair::drain() {
  const fabric::QueuePairOptions& options = messages_.options;
  const auto time = fabric::kFirstSendPause + messages_.stall_timeout();
  if (!drain_by_) {
    drain_by_ = Clock::now() + time +
                std::chrono::milliseconds(options.connect_timeout_ms + options.resume_window_ms);
  }
  if (messages_.stopped) return;  // it goes on, or is over, within the longest pause
  change(fabric::QueuePairChange::kDrain);
  carrier_->drain(std::min(*drain_by_, Clock::now() + time));
}

void QueuePair::begin(Opening opening) {
  // Out of memory, there may be no carrier either.
  const auto fail = [this](const Error& error) { carrier_ ? carrier_->abandon(error) : carrier_down(error); };
  try {
    carrier_ = std::make_unique<Carrier>(messages_, static_cast<CarrierUser&>(*this), processor_,
                                         std::move(opening.peer));
    if (opening.protection) carrier_->protect(*opening.protection);
    if (opening.answer) return carrier_->answer(std::move(*opening.answer));
    carrier_->dial(opening.endpoint, std::move(opening.private_data));
  } catch (const Error& error) {
    fail(error);
  } catch (const std::exception& error) {
    fail(Error("RESOURCE_LIMIT", std::string("cannot begin the handshake: ") + error.what()));
  }
}

void QueuePair::change(fabric::QueuePairChange change) {
  if (const auto next = fabric::next_state(state_.load(), change)) state_.store(*next);
}

void QueuePair::check_local(uint32_t lkey, uint64_t address, uint32_t length, unsigned right) const {
  if (length == 0) return;
  const std::optional<Region> region = messages_.regions->find(lkey);
  const fabric::LocalRange range = region ? region->wire() : fabric::LocalRange{};
  fabric::check_local_buffer(region ? &range : nullptr, lkey, address, length, right);
}

size_t QueuePair::post_send(std::span<const fabric::SendWorkRequest> requests) {
  if (messages_.send_queue.closed())
    throw Error("CONNECTION_CLOSED", "the connection has ended; nothing can be sent any more");
  const auto put = [this](std::span<const fabric::SendWorkRequest> good) {
    const SendQueue::Posted posted = messages_.send_queue.post(good);
    if (posted.sender_is_idle) kick();
    return posted.count;
  };
  for (size_t at = 0; at < requests.size(); ++at) {
    try {
      check(requests[at]);
    } catch (const Error& error) {
      const size_t count = put(requests.first(at));
      if (count < at) return count;
      throw fabric::BadWorkRequest(error, at);
    }
  }
  return put(requests);
}

void QueuePair::check(const fabric::SendWorkRequest& request) const {
  check_local(request.lkey, request.address, request.length, fabric::local_rights(request.opcode));
  if (request.opcode == fabric::Opcode::kRdmaRead && ord_.load() == 0)
    bad_argument("a READ, but the peer takes none (its IRD is 0)");
}

size_t QueuePair::post_recv(std::span<const fabric::RecvWorkRequest> requests) {
  for (size_t at = 0; at < requests.size(); ++at) {
    try {
      check_local(requests[at].lkey, requests[at].address, requests[at].length, fabric::kAccessLocalWrite);
    } catch (const Error& error) {
      const size_t count = messages_.recv_queue.post(requests.first(at));
      if (count < at) return count;
      throw fabric::BadWorkRequest(error, at);
    }
  }
  return messages_.recv_queue.post(requests);
}

void QueuePair::protect(const fabric::Protection& protection) {
  if (protect_from_start(protection)) return;
  std::optional<Error> failure;
  processor_.call([&] {
    try {
      protect_now(protection);
    } catch (const Error& error) {
      failure = error;
    } catch (const std::exception&) {
      failure.emplace("OUT_OF_MEMORY", "no memory to protect the connection");
    }
  });
  if (failure) throw *failure;
}

bool QueuePair::protect_from_start(const fabric::Protection& protection) {
  std::lock_guard lock(mutex_);
  if (closed_) throw Error("CONNECTION_CLOSED", "the queue pair has been closed");
  if (started_) return false;
  if (protected_) bad_argument("protect() of a protected queue pair");
  RecordWriter{protection};  // what is wrong with it is said here
  if (resumption_) resumption_->keys.emplace(protection);
  protection_ = protection;
  protected_ = true;
  return true;
}

void QueuePair::protect_now(const fabric::Protection& protection) {
  if (ended_) throw Error("CONNECTION_CLOSED", "the queue pair has ended");
  if (!carrier_) bad_argument("protect() while the queue pair begins");
  if (messages_.log.on()) bad_argument("protect() of a resumable queue pair that has begun in the clear");
  std::optional<CarrierKeys> keys;
  if (resumption_ && resumption_->terms) keys.emplace(protection);
  carrier_->protect(protection);
  if (keys) {
    resumption_->keys = std::move(keys);
    become_resumable();
  }
  std::lock_guard lock(mutex_);
  protected_ = true;
  describe_stream();
}

void QueuePair::describe_stream() {
  info_.crc = negotiated_->crc && !protected_;
  info_.detail = "MPA revision " + std::to_string(negotiated_->revision) + ", CRC32C " +
                 (info_.crc ? "on" : "off") + (protected_ ? ", AES-256-GCM records" : "") +
                 (messages_.log.on() ? ", resumable" : "");
  info_.resumable = messages_.log.on();
}

void QueuePair::resume_receive(bool for_good) {
  if (for_good) messages_.holds.store(false);
  if (messages_.held.exchange(false)) kick();
}

void QueuePair::notify() {
  if (!notified_.exchange(true)) kick();
}

// Not once it is closed: nobody forgets it again.
void QueuePair::kick() {
  std::lock_guard lock(mutex_);
  if (!closed_) processor_.kick(*this);
}

void QueuePair::disconnect() {
  messages_.send_queue.close();
  draining_.store(true);
  kick();
}

void QueuePair::close() {
  std::lock_guard one_at_a_time(close_mutex_);
  {
    std::lock_guard lock(mutex_);
    if (std::exchange(closed_, true)) return;
  }
  processor_.call([this] { end(); });
}

void QueuePair::end() {
  if (carrier_) carrier_->abandon();
  carrier_down(std::nullopt);
  processor_.forget(*this);
  carrier_.reset();
  std::optional<Opening> opening;
  std::lock_guard lock(mutex_);
  opening = std::exchange(opening_, std::nullopt);
}

fabric::QueuePairInfo QueuePair::info() const {
  std::lock_guard lock(mutex_);
  return info_;
}

// A WRITE completes when the kernel has taken it, which may be long before it is on the wire.
std::chrono::microseconds QueuePair::wire_time() const {
  std::lock_guard lock(mutex_);
  return measurable_ < 0 ? wire_time_ : unacknowledged_time(measurable_);
}

void QueuePair::carrier_closing() {
  std::lock_guard lock(mutex_);
  if (measurable_ < 0) return;
  wire_time_ = unacknowledged_time(measurable_);
  measurable_ = -1;
}

void QueuePair::carrier_up(const Negotiated& negotiated, int socket) {
  fabric::Bytes private_data = negotiated.private_data;
  agree(negotiated, socket, private_data);
  {
    std::lock_guard lock(mutex_);
    measurable_ = socket;
    info_.local_address = fabric::local_address_of(socket);
    info_.peer_address = fabric::peer_address_of(socket);
    negotiated_ = negotiated;
    describe_stream();
  }
  ord_.store(negotiated.ord);
  change(fabric::QueuePairChange::kConnected);
  if (draining_.load()) change(fabric::QueuePairChange::kDrain);
  if (!messages_.log.on() || !resumption_->dials) return messages_.events.on_established(private_data);
  unannounced_ = std::move(private_data);
  announce_by_ = Clock::now() + std::chrono::milliseconds(messages_.options.connect_timeout_ms);
  processor_.wake_by(*this, announce_by_);
}

void QueuePair::carrier_down(const std::optional<Error>& reason) {
  if (std::exchange(ended_, true)) return;
  change(fabric::QueuePairChange::kEnd);
  end_resumption();
  std::vector<fabric::Completion> completions;
  messages_.send_queue.mark_sent(messages_.log.take_acknowledged());
  messages_.send_queue.flush(completions, messages_.oldest_failed);
  if (!completions.empty()) messages_.events.on_send(completions);
  completions.clear();
  messages_.recv_queue.flush(completions);
  if (!completions.empty()) messages_.events.on_recv(completions);
  messages_.events.on_closed(reason ? &*reason : nullptr);
}

}  // namespace rdma_migrate::iwarp
