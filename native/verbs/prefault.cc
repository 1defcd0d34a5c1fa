#include "verbs/prefault.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <system_error>
#include <thread>
#include <vector>

#include "memory/madvise.h"

namespace rdma_migrate::verbs {
namespace {

constexpr uint64_t kWorthAThread = 64 << 20;
constexpr uint64_t kStep = 16 << 20;
constexpr unsigned kMaxThreads = 8;

struct Walk {
  uint64_t begin;
  uint64_t end;
  std::atomic<uint64_t> next{0};

  void run() {
    for (;;) {
      const uint64_t at = begin + next.fetch_add(kStep);
      if (at >= end) return;
      // What cannot be populated fails when it is pinned, with the reason.
      if (madvise(reinterpret_cast<void*>(at), std::min(kStep, end - at), MADV_POPULATE_WRITE) != 0) return;
    }
  }
};

}  // namespace

void prefault(uint64_t address, uint64_t length) {
  if (length < kWorthAThread) return;
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  Walk walk{address / page * page, (address + length + page - 1) / page * page};
  const uint64_t useful = std::min<uint64_t>(length / kWorthAThread, kMaxThreads);
  const auto threads = std::min<uint64_t>(useful, std::max(1u, std::thread::hardware_concurrency()));
  std::vector<std::thread> helpers;
  try {
    while (helpers.size() + 1 < threads) helpers.emplace_back([&walk] { walk.run(); });
  } catch (const std::system_error&) {
    // Fewer threads do as well.
  }
  walk.run();
  for (std::thread& helper : helpers) helper.join();
}

}  // namespace rdma_migrate::verbs
