// Reads /proc/PID/pagemap in batches (admin-guide/mm/pagemap).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "fd.h"

namespace rdma_migrate::dirty {

class Pagemap {
 public:
  // fd: a pagemap opened for reading.
  explicit Pagemap(UniqueFd fd);

  // Calls visit(address of the first, entries), one entry per host page, for all of [address, address +
  // length). Throws Error: IO_ERROR.
  void read(uint64_t address, uint64_t length,
            const std::function<void(uint64_t, std::span<const uint64_t>)>& visit);
  uint64_t page_size() const { return page_size_; }

 private:
  UniqueFd fd_;
  uint64_t page_size_;
  std::vector<uint64_t> entries_;
};

// The run of page numbers from `page` on for which is(entry) has one value.
template <typename Predicate>
size_t run_end(std::span<const uint64_t> entries, size_t from, Predicate is) {
  const bool value = is(entries[from]);
  size_t at = from;
  while (at < entries.size() && is(entries[at]) == value) ++at;
  return at;
}

}  // namespace rdma_migrate::dirty
