// Zeroed memory that takes room only where it has been used, and is in no core dump.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rdma_migrate::engine {

class Slab {
 public:
  // Throws Error: OUT_OF_MEMORY, with what it is for ("a connection's buffers").
  Slab(size_t size, const char* what_for);
  ~Slab();
  Slab(const Slab&) = delete;
  Slab& operator=(const Slab&) = delete;
  uint8_t* data() const { return data_; }
  uint64_t address() const { return reinterpret_cast<uint64_t>(data_); }
  size_t size() const { return size_; }

 private:
  uint8_t* data_;
  size_t size_;
};

}  // namespace rdma_migrate::engine
