#include "iwarp/domain.h"

#include "iwarp/queue_pair.h"

namespace rdma_migrate::iwarp {
namespace {

class IwarpMemoryRegion final : public fabric::MemoryRegion {
 public:
  // address: its wire base.
  IwarpMemoryRegion(std::shared_ptr<RegionTable> table, uint32_t stag, uint64_t address, uint64_t length,
                    std::shared_ptr<fabric::Backing> backing = nullptr)
      : table_(std::move(table)),
        backing_(std::move(backing)),
        stag_(stag),
        address_(address),
        length_(length) {}
  ~IwarpMemoryRegion() override {
    if (!withdraw()) table_->wait_until_left();
  }
  uint64_t address() const override { return address_; }
  uint64_t length() const override { return length_; }
  uint32_t lkey() const override { return stag_; }
  uint32_t rkey() const override { return stag_; }
  bool withdraw() override {
    if (!withdrawn_) left_ = table_->remove(stag_);
    withdrawn_ = true;
    return left_;
  }

 private:
  const std::shared_ptr<RegionTable> table_;
  const std::shared_ptr<fabric::Backing> backing_;
  const uint32_t stag_;
  const uint64_t address_;
  const uint64_t length_;
  bool withdrawn_ = false;
  bool left_ = false;  // then nobody touched the range any more
};

}  // namespace

Domain::Domain(std::shared_ptr<Engine> engine) : regions_(std::make_shared<RegionTable>(std::move(engine))) {}

std::unique_ptr<fabric::MemoryRegion> Domain::register_memory(uint64_t address, uint64_t length,
                                                              unsigned access) {
  return register_mapped(address, length, access, nullptr);
}

std::unique_ptr<fabric::MemoryRegion> Domain::register_mapped(uint64_t address, uint64_t length,
                                                              unsigned access,
                                                              std::shared_ptr<fabric::Backing> backing) {
  const uint32_t stag = regions_->add(address, length, access, backing.get());
  return std::make_unique<IwarpMemoryRegion>(regions_, stag, address, length, std::move(backing));
}

std::unique_ptr<fabric::MemoryRegion> Domain::register_as(const fabric::MovedRegion& was, uint64_t address) {
  regions_->add_as(was.key, was.wire_base, address, was.length, was.access);
  return std::make_unique<IwarpMemoryRegion>(regions_, was.key, was.wire_base, was.length);
}

bool Domain::observe_placement(std::shared_ptr<fabric::PlacementObserver> observer) {
  regions_->observe_placement(std::move(observer));
  return true;
}

std::unique_ptr<fabric::QueuePair> Domain::create_queue_pair(const fabric::QueuePairOptions& options,
                                                             fabric::QueuePairEvents& events) {
  return std::make_unique<QueuePair>(regions_, options, events);
}

}  // namespace rdma_migrate::iwarp
