#include "engine/file_backing.h"

#include "memory/guarded.h"
#include "memory/store.h"

namespace rdma_migrate::engine {

std::shared_ptr<FileBacking> FileBacking::of(const memory::Mapping& mapping) {
  if (!mapping.knows_fresh_pages()) return nullptr;
  return std::shared_ptr<FileBacking>(new FileBacking(mapping));
}

bool FileBacking::is_fresh(uint64_t address) const { return mapping_.is_fresh(address - mapping_.address()); }

// A read fault in a file in memory maps the pages around that are there, ready to be written; a write fault
// maps one. A page that cannot be read tells so when it is written.
void FileBacking::prepare(uint64_t address, uint64_t length) {
  constexpr uint64_t kAround = 64 * 1024;  // what Linux does, unless fault_around_bytes says another
  if (!mapping_.is_in_memory()) return;
  memory::guarded([=] {
    for (uint64_t at = address; at < address + length; at += kAround - at % kAround)
      static_cast<void>(*reinterpret_cast<const volatile uint8_t*>(static_cast<uintptr_t>(at)));
  });
}

// The page that the end lies in counts as empty still: what continues there takes the same way.
void FileBacking::touched(uint64_t address, uint64_t length) {
  const uint64_t page = mapping_.page_size();
  const uint64_t offset = address - mapping_.address();
  const uint64_t begin = offset - offset % page;
  const uint64_t end = (offset + length) - (offset + length) % page;
  if (end > begin) mapping_.note_touched({begin, end - begin});
}

uint64_t FileBacking::store(uint64_t address, std::span<const iovec> pieces) {
  return memory::store_pieces(mapping_, address - mapping_.address(), pieces);
}

}  // namespace rdma_migrate::engine
