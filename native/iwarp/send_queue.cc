#include "iwarp/send_queue.h"

#include <algorithm>
#include <utility>

namespace rdma_migrate::iwarp {

using fabric::Completion;
using fabric::Opcode;
using fabric::SendWorkRequest;
using fabric::Status;

SendQueue::Posted SendQueue::post(std::span<const SendWorkRequest> requests) {
  std::lock_guard lock(mutex_);
  if (closed_) throw Error("CONNECTION_CLOSED", "the connection has ended; nothing can be sent any more");
  if (frozen_) throw Error("INVALID_ARGUMENT", kFrozen);
  const size_t outstanding = posted_ - retired_;
  const size_t count = std::min<size_t>(requests.size(), capacity_ - outstanding);
  if (outstanding + count > ring_.size()) grow(outstanding + count);
  for (size_t at = 0; at < count; ++at) slot(posted_++) = requests[at];
  return {count, count != 0 && std::exchange(sender_idle_, false)};
}

void SendQueue::grow(size_t needed) {
  std::vector<SendWorkRequest> larger(std::min(capacity_, std::max(needed, 2 * ring_.size())));
  for (uint64_t at = retired_; at < posted_; ++at) larger[at % larger.size()] = slot(at);
  ring_.swap(larger);
}

void SendQueue::take(std::vector<SendWorkRequest>& out, size_t limit) {
  out.clear();
  std::lock_guard lock(mutex_);
  while (taken_ < posted_ && out.size() < limit) out.push_back(slot(taken_++));
  sender_idle_ = out.empty();
}

void SendQueue::give_back(size_t count) {
  std::lock_guard lock(mutex_);
  taken_ -= count;
}

void SendQueue::mark_sent(size_t count) {
  std::lock_guard lock(mutex_);
  sent_ += count;
}

void SendQueue::mark_read_done() {
  std::lock_guard lock(mutex_);
  ++reads_answered_;
}

void SendQueue::advance_done() {
  for (; done_ < sent_; ++done_) {
    if (slot(done_).opcode != Opcode::kRdmaRead) continue;
    if (reads_answered_ == 0) return;
    --reads_answered_;
  }
}

void SendQueue::reap(std::vector<Completion>& out) {
  std::lock_guard lock(mutex_);
  uint64_t reported = done_;
  advance_done();
  for (; reported < done_; ++reported) {
    const SendWorkRequest& request = slot(reported);
    if (!request.signaled) continue;
    uint32_t bytes = request.opcode == Opcode::kRdmaRead ? request.length : 0;
    out.push_back({request.wr_id, request.opcode, Status::kSuccess, bytes});
    retired_ = reported + 1;
  }
}

void SendQueue::freeze(bool frozen) {
  std::lock_guard lock(mutex_);
  frozen_ = frozen;
}

SendQueue::Saved SendQueue::save() const {
  std::lock_guard lock(mutex_);
  Saved saved{done_ - retired_, sent_ - retired_, taken_ - retired_, reads_answered_, {}};
  for (uint64_t at = retired_; at < posted_; ++at) saved.requests.push_back(slot(at));
  return saved;
}

void SendQueue::restore(const Saved& saved) {
  std::lock_guard lock(mutex_);
  if (saved.requests.size() > ring_.size()) grow(saved.requests.size());
  for (const SendWorkRequest& each : saved.requests) slot(posted_++) = each;
  done_ = saved.done;
  sent_ = saved.sent;
  taken_ = saved.taken;
  reads_answered_ = saved.reads_answered;
}

void SendQueue::close() {
  std::lock_guard lock(mutex_);
  closed_ = true;
}

bool SendQueue::closed() const {
  std::lock_guard lock(mutex_);
  return closed_;
}

bool SendQueue::drained() const {
  std::lock_guard lock(mutex_);
  return done_ == posted_;
}

void SendQueue::flush(std::vector<Completion>& out, bool oldest_failed) {
  reap(out);
  std::lock_guard lock(mutex_);
  closed_ = true;
  for (; done_ < posted_; ++done_) {
    out.push_back(
        {slot(done_).wr_id, slot(done_).opcode, oldest_failed ? Status::kError : Status::kFlushed, 0});
    oldest_failed = false;
  }
  retired_ = sent_ = taken_ = done_;
}

}  // namespace rdma_migrate::iwarp
