#include "verbs/prefault.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "memory/madvise.h"
#include "verbs/parallel.h"

namespace rdma_migrate::verbs {
namespace {

constexpr uint64_t kWorthAThread = 64 << 20;
constexpr uint64_t kStep = 16 << 20;

}  // namespace

void prefault(uint64_t address, uint64_t length) {
  if (length < kWorthAThread) return;
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const uint64_t begin = address / page * page;
  const uint64_t end = (address + length + page - 1) / page * page;
  in_parallel((end - begin + kStep - 1) / kStep, [&](uint64_t at) {
    const uint64_t from = begin + at * kStep;
    // What cannot be populated fails when it is pinned, with the reason.
    madvise(reinterpret_cast<void*>(from), std::min(kStep, end - from), MADV_POPULATE_WRITE);
  });
}

}  // namespace rdma_migrate::verbs
