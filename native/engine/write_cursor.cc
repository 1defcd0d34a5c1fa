#include "engine/write_cursor.h"

#include <algorithm>

namespace rdma_migrate::engine {
namespace {

// A WRITE that ends within a page ends at a boundary that every memory system likes.
constexpr uint64_t kAlignment = 4096;

// Pages that are digested travel whole, as do those that fit.
uint64_t longest_write(const WriteJob& job, uint64_t limit) {
  if (limit >= job.page_size) return limit - limit % job.page_size;
  return job.digests ? job.page_size : std::max(limit - limit % kAlignment, kAlignment);
}

}  // namespace

std::optional<Extent> WriteCursor::next(uint64_t limit) {
  if (rest_.length == 0 && !take_bits(limit)) return std::nullopt;
  return Extent{rest_.offset, std::min(rest_.length, longest_write(job_, limit)), rest_.span};
}

void WriteCursor::take(const Extent& write) {
  rest_.offset += write.length;
  rest_.length -= write.length;
}

bool WriteCursor::at_end() { return rest_.length == 0 && !seek(); }

void WriteCursor::enter(size_t span) {
  span_ = span;
  if (span == job_.spans.size()) return;
  const WriteSpan& entered = job_.spans[span];
  page_ = entered.offset / job_.page_size;
  end_ = page_ + entered.length / job_.page_size;
}

bool WriteCursor::seek() {
  for (; span_ < job_.spans.size(); enter(span_ + 1)) {
    page_ = job_.bitmap->next_set(page_, end_);
    if (page_ < end_) return true;
  }
  return false;
}

bool WriteCursor::take_bits(uint64_t limit) {
  while (seek()) {
    const uint64_t most = std::min(end_, page_ + std::max<uint64_t>(1, limit / job_.page_size));
    const uint64_t stop = job_.bitmap->next_clear(page_, most);
    if (stop == page_) continue;  // it has been cleared since
    job_.bitmap->clear_range(page_, stop - page_);
    rest_ = {page_ * job_.page_size, (stop - page_) * job_.page_size, span_};
    page_ = stop;
    return true;
  }
  return false;
}

fabric::SendWorkRequest write_request(const WriteJob& job, const Extent& extent) {
  fabric::SendWorkRequest request;
  request.opcode = fabric::Opcode::kRdmaWrite;
  request.address = job.local_address + extent.offset;
  request.length = static_cast<uint32_t>(extent.length);
  request.lkey = job.spans[extent.span].lkey;
  request.remote_address = job.remote_address + extent.offset;
  request.rkey = job.spans[extent.span].rkey;
  return request;
}

uint64_t pages_ended(const WriteJob& job, const Extent& extent) {
  return (extent.offset + extent.length) / job.page_size - extent.offset / job.page_size;
}

}  // namespace rdma_migrate::engine
