// A guest that goes on writing its memory.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace rdma_migrate::test {

class Guest {
 public:
  explicit Guest(std::vector<uint8_t>& bytes)
      : thread_([this, &bytes] { run(bytes.data(), bytes.size()); }) {}
  ~Guest() {
    stop_.store(true);
    thread_.join();
  }
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;

 private:
  // Stores of which no sanitizer knows, as of a real guest's.
  __attribute__((no_sanitize("thread"))) void run(uint8_t* memory, size_t size) {
    volatile uint8_t* const data = memory;
    for (uint8_t value = 0; !stop_.load(std::memory_order_relaxed); ++value) {
      for (size_t at = value; at < size; at += 97) data[at] = value;
    }
  }

  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace rdma_migrate::test
