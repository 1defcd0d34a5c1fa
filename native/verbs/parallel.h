// A few threads for work that pins or touches memory.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <system_error>
#include <thread>
#include <vector>

namespace rdma_migrate::verbs {

inline constexpr uint64_t kMaxThreads = 8;

// Calls work(0) to work(count - 1), each once, from this thread and others; returns when all have returned.
// work throws nothing.
template <typename Work>
void in_parallel(uint64_t count, const Work& work) {
  std::atomic<uint64_t> next{0};
  const auto run = [&] {
    for (uint64_t at = next.fetch_add(1); at < count; at = next.fetch_add(1)) work(at);
  };
  const auto processors = std::max<uint64_t>(1, std::thread::hardware_concurrency());
  const uint64_t threads = std::min({count, kMaxThreads, processors});
  std::vector<std::thread> helpers;
  try {
    while (helpers.size() + 1 < threads) helpers.emplace_back(run);
  } catch (const std::system_error&) {
    // Fewer threads do as well.
  }
  run();
  for (std::thread& helper : helpers) helper.join();
}

}  // namespace rdma_migrate::verbs
