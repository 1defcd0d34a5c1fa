#include "iwarp/io_section.h"

#include <chrono>
#include <thread>

namespace rdma_migrate::iwarp {

void IoSection::wait_until_left(const void* table) const {
  constexpr int kSpins = 200;  // a section lasts some microseconds, unless it waits for a page from a disk
  const uint64_t seen = state_.load(std::memory_order_seq_cst);
  if ((seen & 1) == 0 || table_.load(std::memory_order_relaxed) != table) return;
  for (int spin = 0; state_.load(std::memory_order_acquire) == seen; ++spin) {
    if (spin < kSpins) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }
}

}  // namespace rdma_migrate::iwarp
