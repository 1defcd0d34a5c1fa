// Memory that holds a guest's bytes stays out of core dumps of this process: who reads the dump of a crash
// would read the guest. With RDMA_MIGRATE_CORE_DUMPS=with-ram in the environment, looked at once, all of it
// is in them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace rdma_migrate::memory {

// Whole pages. Keeps errno. Best effort: a kernel that cannot (none since 3.4) is no reason to fail.
void leave_out_of_core_dumps(void* memory, size_t length);

// New zeroed pages that are in no core dump; nullptr and errno if there are none.
uint8_t* map_private(size_t size);
void unmap_private(void* memory, size_t size);

struct UnmapPrivate {
  size_t size = 0;
  void operator()(uint8_t* memory) const { unmap_private(memory, size); }
};
using PrivatePages = std::unique_ptr<uint8_t[], UnmapPrivate>;
// Throws std::bad_alloc.
PrivatePages private_pages(size_t size);

// For containers of such bytes. Never less than a page each.
template <typename T>
struct PrivateAllocator {
  using value_type = T;
  PrivateAllocator() = default;
  template <typename U>
  PrivateAllocator(const PrivateAllocator<U>&) {}
  T* allocate(size_t count);
  // One byte more than is used, so that what is used never borders on somebody else's memory.
  void deallocate(T* memory, size_t count) { unmap_private(memory, count * sizeof(T) + 1); }
  friend bool operator==(const PrivateAllocator&, const PrivateAllocator&) { return true; }
};

template <>
uint8_t* PrivateAllocator<uint8_t>::allocate(size_t count);

using PrivateBytes = std::vector<uint8_t, PrivateAllocator<uint8_t>>;

}  // namespace rdma_migrate::memory
