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
  return Extent{rest_.offset, std::min(rest_.length, longest_write(job_, limit))};
}

void WriteCursor::take(const Extent& write) {
  rest_ = {rest_.offset + write.length, rest_.length - write.length};
}

bool WriteCursor::at_end() {
  if (rest_.length > 0) return false;
  page_ = job_.bitmap->next_set(page_, end());
  return page_ >= end();
}

bool WriteCursor::take_bits(uint64_t limit) {
  while (!at_end()) {
    const uint64_t first = page_;
    const uint64_t most = std::min(end(), first + std::max<uint64_t>(1, limit / job_.page_size));
    const uint64_t stop = job_.bitmap->next_clear(first, most);
    if (stop == first) continue;  // it has been cleared since
    job_.bitmap->clear_range(first, stop - first);
    page_ = stop;
    rest_ = {(first - job_.first_page) * job_.page_size, (stop - first) * job_.page_size};
    return true;
  }
  return false;
}

fabric::SendWorkRequest write_request(const WriteJob& job, const Extent& extent) {
  fabric::SendWorkRequest request;
  request.opcode = fabric::Opcode::kRdmaWrite;
  request.address = job.local_address + extent.offset;
  request.length = static_cast<uint32_t>(extent.length);
  request.lkey = job.lkey;
  request.remote_address = job.remote_address + extent.offset;
  request.rkey = job.rkey;
  return request;
}

uint64_t pages_ended(const WriteJob& job, const Extent& extent) {
  return (extent.offset + extent.length) / job.page_size - extent.offset / job.page_size;
}

}  // namespace rdma_migrate::engine
