// Requests that a device gets in one call.
#pragma once

#include <cstddef>

namespace rdma_migrate::verbs {

inline constexpr size_t kChain = 16;

// How many of a chain of count the device took; bad: the first that it did not.
template <typename Work>
size_t taken(int error_number, const Work* bad, const Work* first, size_t count) {
  if (error_number == 0) return count;
  return bad == nullptr ? 0 : static_cast<size_t>(bad - first);
}

}  // namespace rdma_migrate::verbs
