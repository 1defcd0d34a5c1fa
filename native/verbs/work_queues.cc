#include "verbs/work_queues.h"

#include <array>
#include <cerrno>

#include "fabric/work_request.h"
#include "verbs/chain.h"
#include "verbs/errors.h"

namespace rdma_migrate::verbs {
namespace {

constexpr uint64_t kProbe = UINT64_MAX;  // wr_id

Error closed(const char* what) {
  return Error("CONNECTION_CLOSED",
               std::string("the connection has ended; nothing can be ") + what + " any more");
}

// Why the region of a posted request has no buffers for it.
Error no_buffers(int why, uint32_t length) {
  if (why == Regions::View::kTooLong)
    return Error("INVALID_ARGUMENT", "a posted request of " + std::to_string(length) +
                                         " bytes is longer than what the device registers in one piece");
  return Error("INVALID_ARGUMENT",
               "the memory region of a posted work request was deregistered before its bytes were sent");
}

fabric::Status status_of(const ibv_wc& completion) {
  if (completion.status == IBV_WC_SUCCESS) return fabric::Status::kSuccess;
  return completion.status == IBV_WC_WR_FLUSH_ERR ? fabric::Status::kFlushed : fabric::Status::kError;
}

// push(request) of each until the ring is full or check(request) throws: then `bad` has what it threw.
template <typename Request, typename Ring, typename Check>
size_t push_all(std::span<const Request> requests, Ring& ring, std::optional<Error>& bad,
                const Check& check) {
  size_t count = 0;
  for (const Request& request : requests) {
    if (ring.full()) break;
    try {
      check(request);
    } catch (const Error& error) {
      bad = error;
      break;
    }
    ring.push(request);
    ++count;
  }
  return count;
}

}  // namespace

WorkQueues::WorkQueues(const fabric::QueuePairOptions& options, std::shared_ptr<Regions> regions,
                       std::function<void()> refused)
    : regions_(std::move(regions)),
      refused_(std::move(refused)),
      send_ring_(options.max_send_wr),
      recv_ring_(options.max_recv_wr) {}

size_t WorkQueues::post_send(std::span<const fabric::SendWorkRequest> requests) {
  std::lock_guard lock(send_mutex_);
  if (sends_closed_) throw closed("sent");
  std::optional<Error> bad;
  size_t count = 0;
  {
    const Regions::View regions(*regions_);
    count = push_all(requests, send_ring_, bad, [&](const fabric::SendWorkRequest& request) {
      const unsigned rights = fabric::local_rights(request.opcode);
      regions.check(request.lkey, request.address, request.length, rights);
    });
  }
  give_sends();
  if (bad) throw fabric::BadWorkRequest(*bad, count);
  return count;
}

Error WorkQueues::why_not(const fabric::SendWorkRequest& request) const {
  Regions::Buffers unused{};
  const Regions::View regions(*regions_);
  return no_buffers(regions.buffers(request.lkey, request.address, request.length, unused), request.length);
}

// Under send_mutex_.
void WorkQueues::refuse(Error error) {
  refusal_ = std::move(error);
  refused_();
}

std::optional<Error> WorkQueues::refusal() {
  std::lock_guard lock(send_mutex_);
  return refusal_;
}

size_t WorkQueues::post_recv(std::span<const fabric::RecvWorkRequest> requests) {
  std::lock_guard lock(recv_mutex_);
  if (recvs_closed_) throw closed("received");
  std::optional<Error> bad;
  size_t count = 0;
  {
    const Regions::View regions(*regions_);
    count = push_all(requests, recv_ring_, bad, [&](const fabric::RecvWorkRequest& request) {
      regions.check(request.lkey, request.address, request.length, fabric::kAccessLocalWrite);
    });
  }
  give_recvs();
  if (bad) throw fabric::BadWorkRequest(*bad, count);
  return count;
}

// Under recv_mutex_. Throws Error when the device refuses one; not on a connection that is up, which has
// ended then and says so itself: the RECV is flushed at its end.
void WorkQueues::give_recvs() {
  while (recv_carrier_ && recv_ring_.ungiven() != 0) {
    std::array<ibv_recv_wr, kChain> works;
    std::array<Regions::Buffers, kChain> buffers;
    size_t count = 0;
    {
      const Regions::View regions(*regions_);
      for (; count < kChain && count < recv_ring_.ungiven(); ++count) {
        const fabric::RecvWorkRequest& request = recv_ring_.to_give(count);
        const int pieces = regions.buffers(request.lkey, request.address, request.length, buffers[count]);
        if (pieces < 0) break;
        works[count] = {request.wr_id, nullptr, buffers[count].data(), pieces};
        if (count != 0) works[count - 1].next = &works[count];
      }
    }
    ibv_recv_wr* bad = nullptr;
    const int error_number = count == 0 ? EFAULT : recv_carrier_->post_recv(works.data(), &bad);
    recv_ring_.mark_given(count == 0 ? 0 : taken(error_number, bad, works.data(), count));
    if (error_number == 0) continue;
    if (established_.load()) return;
    throw Error("CONNECT_FAILED",
                "the device took no RECV of " + std::to_string(recv_ring_.to_give().length) + " bytes",
                error_number);
  }
}

void WorkQueues::close_sends() {
  std::lock_guard lock(send_mutex_);
  sends_closed_ = true;
}

void WorkQueues::attach(std::shared_ptr<DeviceQueuePair> carrier) {
  carrier_ = std::move(carrier);
  std::lock_guard lock(recv_mutex_);
  recv_carrier_ = carrier_;
  give_recvs();
}

void WorkQueues::open_sends() {
  std::lock_guard lock(send_mutex_);
  if (send_carrier_) return;
  send_carrier_ = carrier_;
  give_sends();
}

void WorkQueues::detach() {
  {
    std::lock_guard lock(send_mutex_);
    sends_closed_ = true;
    send_carrier_.reset();
  }
  {
    std::lock_guard lock(recv_mutex_);
    recvs_closed_ = true;
    recv_carrier_.reset();
  }
  carrier_.reset();
}

std::optional<Error> WorkQueues::complete_sends(std::span<const ibv_wc> completions, const std::string& peer,
                                                std::vector<fabric::Completion>& due) {
  std::optional<Error> failure;
  std::lock_guard lock(send_mutex_);
  for (const ibv_wc& completion : completions) {
    const bool ok = completion.status == IBV_WC_SUCCESS;
    if (!ok && !failure) failure = failure_of(completion, peer);
    uint64_t bytes = 0;
    if (completion.wr_id == kProbe) {
      probing_ = false;
      if (ok) bytes = send_ring_.complete_before(probe_position_, due);
    } else {
      lost_sends_ += ok ? 0 : 1;
      bytes = send_ring_.complete(completion.wr_id, status_of(completion), due);
    }
    counters.bytes_sent.fetch_add(bytes, std::memory_order_relaxed);
  }
  return failure;
}

// Under send_mutex_. Nothing for what was only flushed.
std::optional<Error> WorkQueues::failure_of(const ibv_wc& completion, const std::string& peer) {
  const fabric::SendWorkRequest* request = send_ring_.find(completion.wr_id);
  if (request != nullptr && !is_inline(*request)) {
    Regions::Buffers unused{};
    const Regions::View regions(*regions_);
    const int pieces = regions.buffers(request->lkey, request->address, request->length, unused);
    if (pieces < 0) return no_buffers(pieces, request->length);
  }
  if (completion.status == IBV_WC_WR_FLUSH_ERR) return std::nullopt;
  return completion_error(completion, peer);
}

std::optional<Error> WorkQueues::complete_recvs(std::span<const ibv_wc> completions, const std::string& peer,
                                                std::vector<fabric::Completion>& due) {
  std::optional<Error> failure;
  std::lock_guard lock(recv_mutex_);
  for (const ibv_wc& completion : completions) {
    const fabric::Status status = status_of(completion);
    const bool ok = status == fabric::Status::kSuccess;
    if (status == fabric::Status::kError && !failure) failure = completion_error(completion, peer);
    if (ok) {
      counters.bytes_received.fetch_add(completion.byte_len, std::memory_order_relaxed);
      counters.payload_received.fetch_add(completion.byte_len, std::memory_order_relaxed);
    }
    recv_ring_.complete(status, ok ? completion.byte_len : 0, due);
  }
  return failure;
}

void WorkQueues::flush_sends(std::vector<fabric::Completion>& due, bool oldest_failed) {
  std::lock_guard lock(send_mutex_);
  send_ring_.flush(due, oldest_failed);
}

void WorkQueues::flush_recvs(std::vector<fabric::Completion>& due) {
  std::lock_guard lock(recv_mutex_);
  recv_ring_.flush(due);
}

void WorkQueues::probe() {
  std::lock_guard lock(send_mutex_);
  if (probing_ || !send_carrier_) return;
  ibv_send_wr work{};
  work.wr_id = kProbe;
  work.opcode = IBV_WR_RDMA_WRITE;
  work.send_flags = IBV_SEND_SIGNALED;
  probe_position_ = send_ring_.given();
  ibv_send_wr* bad = nullptr;
  probing_ = send_carrier_->post_send(&work, &bad) == 0;
}

bool WorkQueues::expects_send() {
  std::lock_guard lock(send_mutex_);
  return send_carrier_ && (probing_ || send_ring_.expects_completion());
}

bool WorkQueues::sends_idle() {
  std::lock_guard lock(send_mutex_);
  return send_ring_.idle();
}

bool WorkQueues::sends_lost() {
  std::lock_guard lock(send_mutex_);
  return lost_sends_ != 0 || send_ring_.expects_completion();
}

bool WorkQueues::device_idle() {
  std::scoped_lock lock(send_mutex_, recv_mutex_);
  return send_ring_.device_idle() && recv_ring_.device_idle();
}

}  // namespace rdma_migrate::verbs
