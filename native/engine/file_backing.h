// A mapping as the software RNIC fills it through its file, and what of it is known to be empty.
#pragma once

#include <memory>

#include "fabric/backing.h"
#include "memory/mapping.h"

namespace rdma_migrate::engine {

class FileBacking final : public fabric::Backing {
 public:
  // Null where that is no faster: memory without a file of ours, or whose empty pages are not known. The
  // mapping must outlive it.
  static std::shared_ptr<FileBacking> of(const memory::Mapping& mapping);

  bool is_fresh(uint64_t address) const override;
  void prepare(uint64_t address, uint64_t length) override;
  void touched(uint64_t address, uint64_t length) override;
  uint64_t store(uint64_t address, std::span<const iovec> pieces) override;

 private:
  explicit FileBacking(const memory::Mapping& mapping) : mapping_(mapping) {}

  const memory::Mapping& mapping_;
};

}  // namespace rdma_migrate::engine
