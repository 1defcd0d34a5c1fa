#include "memory/core_dumps.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdlib>
#include <new>
#include <string_view>

namespace rdma_migrate::memory {
namespace {

bool dumps_have_ram() {
  static const bool asked_for = [] {
    const char* given = std::getenv("RDMA_MIGRATE_CORE_DUMPS");
    return given != nullptr && std::string_view(given) == "with-ram";
  }();
  return asked_for;
}

}  // namespace

void leave_out_of_core_dumps(void* memory, size_t length) {
  const int kept = errno;
  if (!dumps_have_ram()) madvise(memory, length, MADV_DONTDUMP);
  errno = kept;
}

uint8_t* map_private(size_t size) {
  void* mapped = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  leave_out_of_core_dumps(mapped, size);
  return static_cast<uint8_t*>(mapped);
}

void unmap_private(void* memory, size_t size) { munmap(memory, size); }

PrivatePages private_pages(size_t size) {
  uint8_t* mapped = map_private(size);
  if (mapped == nullptr) throw std::bad_alloc();
  return PrivatePages(mapped, UnmapPrivate{size});
}

template <>
uint8_t* PrivateAllocator<uint8_t>::allocate(size_t count) {
  return private_pages(count + 1).release();
}

}  // namespace rdma_migrate::memory
