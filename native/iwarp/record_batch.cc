#include "iwarp/record_batch.h"

#include <algorithm>
#include <utility>

#include "memory/live_copy.h"

namespace rdma_migrate::iwarp {

void RecordBatch::add(const void* data, size_t size) {
  const auto* from = static_cast<const uint8_t*>(data);
  for (size_t left = size; left != 0;) {
    const size_t at = size_ % kMaxRecordContent;
    const size_t part = std::min(left, kMaxRecordContent - at);
    memory::copy_live(record(size_ / kMaxRecordContent) + kRecordHeaderSize + at, from, part);
    from += part;
    size_ += part;
    left -= part;
  }
}

std::span<const uint8_t> RecordBatch::seal(RecordWriter& writer) {
  uint8_t* end = memory_.get();
  for (size_t left = std::exchange(size_, 0); left != 0;) {
    const size_t content = std::min(left, kMaxRecordContent);
    end += writer.seal(end, content);
    left -= content;
  }
  if (std::exchange(ends_, false)) end += writer.seal_end(end);
  return {memory_.get(), end};
}

}  // namespace rdma_migrate::iwarp
