#include "bindings/verbs_completions.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace rdma_migrate::bindings {
namespace {

bool is_recv(const CompletionRecord& record) {
  return record.opcode == static_cast<uint8_t>(fabric::Opcode::kRecv);
}

size_t room(size_t most, size_t taken) { return most - std::min(most, taken); }

}  // namespace

bool VerbsCompletions::push(std::span<const fabric::Completion> completions) {
  std::lock_guard lock(mutex_);
  // What has been taken makes room, so that a queue which never runs empty does not grow.
  if (first_ > records_.size() / 2) {
    records_.erase(records_.begin(), records_.begin() + static_cast<ptrdiff_t>(first_));
    first_ = 0;
  }
  for (const fabric::Completion& completion : completions) {
    const CompletionRecord record{completion.wr_id, completion.byte_len,
                                  static_cast<uint8_t>(completion.opcode),
                                  static_cast<uint8_t>(completion.status), 0};
    records_.push_back(record);
    recvs_ += is_recv(record);
  }
  return std::exchange(armed_, false);
}

void VerbsCompletions::end() {
  std::lock_guard lock(mutex_);
  ended_ = true;
}

size_t VerbsCompletions::poll(std::span<uint8_t> out, bool arm) {
  std::lock_guard lock(mutex_);
  const size_t count = std::min(out.size() / sizeof(CompletionRecord), records_.size() - first_);
  if (count == 0) {
    armed_ = arm && records_.size() == first_;
    return 0;
  }
  const CompletionRecord* oldest = records_.data() + first_;
  std::memcpy(out.data(), oldest, count * sizeof(CompletionRecord));
  recvs_ -= static_cast<size_t>(std::count_if(oldest, oldest + count, is_recv));
  first_ += count;
  if (first_ == records_.size()) {
    records_.clear();
    first_ = 0;
  }
  return count;
}

std::vector<fabric::Completion> VerbsCompletions::all() const {
  std::lock_guard lock(mutex_);
  std::vector<fabric::Completion> all;
  for (size_t at = first_; at < records_.size(); ++at) {
    const CompletionRecord& each = records_[at];
    all.push_back({each.wr_id, static_cast<fabric::Opcode>(each.opcode),
                   static_cast<fabric::Status>(each.status), each.byte_len});
  }
  return all;
}

void VerbsCompletions::forget() {
  std::lock_guard lock(mutex_);
  records_.clear();
  first_ = recvs_ = 0;
}

bool VerbsCompletions::exhausted() const {
  std::lock_guard lock(mutex_);
  return ended_ && records_.size() == first_;
}

size_t VerbsCompletions::send_room() const {
  std::lock_guard lock(mutex_);
  return room(max_send_wr_, records_.size() - first_ - recvs_);
}

size_t VerbsCompletions::recv_room() const {
  std::lock_guard lock(mutex_);
  return room(max_recv_wr_, recvs_);
}

}  // namespace rdma_migrate::bindings
