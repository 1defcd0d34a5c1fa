#include "memory/zero_range.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>

#include "memory/extents.h"
#include "memory/store.h"
#include "memory/zero_page.h"

namespace rdma_migrate::memory {
namespace {

constexpr const char* kOperation = "zeroing";

// The pages that are entirely in the range; may be empty.
Range whole_pages(const Mapping& mapping, const Range& range) {
  const uint64_t page = mapping.page_size();
  const uint64_t begin = (range.offset + page - 1) / page * page;
  const uint64_t end = range.end() / page * page;
  return {begin, end > begin ? end - begin : 0};
}

// False: the file system cannot.
bool punch(const Mapping& mapping, const Range& range) {
  int result = 0;
  const auto file = mapping.file();
  do {
    result = fallocate(file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                       static_cast<off_t>(range.offset), static_cast<off_t>(range.length));
  } while (result != 0 && errno == EINTR);
  mapping.remember_data({});
  return result == 0;
}

// Data within [begin, end) of one page or many. Pages are compared first: a page of zeros stays
// shared, clean and unallocated.
void zero_data(const Mapping& mapping, const Range& range, Store& store) {
  constexpr uint64_t kUnit = kTargetPageSize;
  for (uint64_t at = range.offset; at < range.end();) {
    const uint64_t end = std::min(range.end(), (at / kUnit + 1) * kUnit);
    const bool whole = end - at == kUnit;
    if (!whole || !is_zero(mapping.data() + at, kUnit)) store.zeros({at, end - at});
    at = end;
  }
  store.flush();
}

void zero_by_writing(const Mapping& mapping, const Range& range, const CancelFlag* cancel) {
  Store store(mapping);
  for (uint64_t at = range.offset; at < range.end();) {
    throw_if_cancelled(cancel, kOperation);
    const uint64_t length = std::min(kStepBytes, range.end() - at);
    ExtentCursor cursor(mapping, at, length);
    for (Extent extent; cursor.next(&extent);) {
      if (extent.is_hole) continue;
      fault_in(mapping, extent.range);
      zero_data(mapping, extent.range, store);
    }
    at += length;
  }
}

}  // namespace

void zero_range(const Mapping& mapping, uint64_t offset, uint64_t length, bool may_punch,
                const CancelFlag* cancel) {
  mapping.check_writable(offset, length, kOperation);
  const Range all = {offset, length};
  const Range inner = whole_pages(mapping, all);
  const bool owns_file = mapping.has_file() && mapping.kind() != Mapping::Kind::kCaller;
  if (!may_punch || !owns_file || inner.length == 0 || !punch(mapping, inner)) {
    zero_by_writing(mapping, all, cancel);
    return;
  }
  zero_by_writing(mapping, {offset, inner.offset - offset}, cancel);
  zero_by_writing(mapping, {inner.end(), all.end() - inner.end()}, cancel);
}

}  // namespace rdma_migrate::memory
