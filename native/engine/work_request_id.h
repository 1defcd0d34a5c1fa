// Who posted a work request: the top byte of its wr_id.
#pragma once

#include <cstdint>

namespace rdma_migrate::engine {

enum class Owner : uint8_t { kControl = 1, kBulkWriter = 2, kBarrier = 3, kStream = 4 };

constexpr uint64_t make_wr_id(Owner owner, uint64_t value) {
  return (uint64_t{static_cast<uint8_t>(owner)} << 56) | (value & 0x00ff'ffff'ffff'ffffULL);
}
constexpr Owner owner_of(uint64_t wr_id) { return static_cast<Owner>(wr_id >> 56); }
constexpr uint64_t value_of(uint64_t wr_id) { return wr_id & 0x00ff'ffff'ffff'ffffULL; }

static_assert(value_of(make_wr_id(Owner::kBulkWriter, 42)) == 42);
static_assert(owner_of(make_wr_id(Owner::kBulkWriter, ~0ULL)) == Owner::kBulkWriter);

}  // namespace rdma_migrate::engine
