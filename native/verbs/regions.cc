#include "verbs/regions.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <iterator>
#include <optional>
#include <string>

#include "fabric/work_request.h"
#include "memory/memory_limit.h"
#include "verbs/locked_memory.h"
#include "verbs/parallel.h"
#include "verbs/pieces.h"
#include "verbs/prefault.h"

namespace rdma_migrate::verbs {
namespace {

class VerbsMemoryRegion final : public fabric::MemoryRegion {
 public:
  VerbsMemoryRegion(std::shared_ptr<Regions> regions, uint32_t handle, uint64_t address, uint64_t length)
      : regions_(std::move(regions)), handle_(handle), address_(address), length_(length) {}
  ~VerbsMemoryRegion() override { regions_->remove(handle_); }
  uint64_t address() const override { return address_; }
  uint64_t length() const override { return length_; }
  uint32_t lkey() const override { return handle_; }
  uint32_t rkey() const override { return regions_->rkey(handle_); }

 private:
  const std::shared_ptr<Regions> regions_;
  const uint32_t handle_;
  const uint64_t address_;
  const uint64_t length_;
};

// Handles of neighbouring regions differ in more than their low bits, so that an index added to a key by
// mistake names no other region.
constexpr uint32_t kHandleStep = 0x101;

int device_access(unsigned access) {
  int flags = 0;
  // The device writes for the peer: the specification wants local write with remote write.
  if ((access & (fabric::kAccessLocalWrite | fabric::kAccessRemoteWrite)) != 0)
    flags |= IBV_ACCESS_LOCAL_WRITE;
  if ((access & fabric::kAccessRemoteWrite) != 0) flags |= IBV_ACCESS_REMOTE_WRITE;
  if ((access & fabric::kAccessRemoteRead) != 0) flags |= IBV_ACCESS_REMOTE_READ;
  return flags;
}

bool writable(unsigned access) { return (device_access(access) & IBV_ACCESS_LOCAL_WRITE) != 0; }

}  // namespace

std::unique_ptr<fabric::MemoryRegion> Regions::add(uint64_t address, uint64_t length, unsigned access) {
  if (length > UINT64_MAX - address) {
    throw Error("REGISTER_FAILED", "the range of " + std::to_string(length) + " bytes at " +
                                       std::to_string(address) + " does not fit into the address space");
  }
  check_can_pin(length, pin_limits());
  std::shared_lock device(device_mutex_);
  if (ended_)
    throw Error("CONNECTION_CLOSED",
                "the domain has been closed; no memory can be registered with it any more");
  if (remote_revoked_ && (access & fabric::kRemoteAccess) != 0)
    throw Error("REGISTER_FAILED", "the domain gives its peers no rights to memory any more");
  Region region{address, length, access, {}, 0};
  if (device_) register_with_device(region);
  std::lock_guard lock(mutex_);
  const uint32_t handle = new_handle();
  regions_[handle] = std::move(region);
  return std::make_unique<VerbsMemoryRegion>(shared_from_this(), handle, address, length);
}

uint32_t Regions::new_handle() {
  do last_handle_ += kHandleStep;
  while (last_handle_ == 0 || regions_.contains(last_handle_));
  return last_handle_;
}

void Regions::register_with_device(Region& region) const {
  const uint64_t limit = device_->max_mr_size();
  // What is only sent from: a peer has one key for a range, and an iWARP READ arrives in one buffer.
  if (region.access == 0) {
    region.piece = piece_size(region.length, limit == 0 ? UINT64_MAX : limit);
    return register_pieces(region);
  }
  if (region.length > limit) {
    throw Error("REGISTER_FAILED",
                device_->name() + " registers at most " + memory::format_bytes(limit) + " at once and " +
                    memory::format_bytes(region.length) +
                    " were asked for; one range has one key, so it cannot be split: migrate without pin-all");
  }
  if (writable(region.access)) prefault(region.address, region.length);
  region.piece = region.length;
  region.mrs.push_back(register_range(region.address, region.length, region.access));
}

void Regions::register_pieces(Region& region) const {
  const uint64_t count =
      std::max<uint64_t>(1, region.length / region.piece + (region.length % region.piece != 0));
  region.mrs.resize(count);
  std::mutex mutex;
  std::optional<Error> failure;
  in_parallel(count, [&](uint64_t at) {
    try {
      const uint64_t offset = at * region.piece;
      const uint64_t length = std::min(region.piece, region.length - offset);
      region.mrs[at] = register_range(region.address + offset, length, region.access);
    } catch (const Error& error) {
      std::lock_guard lock(mutex);
      if (!failure) failure = error;
    }
  });
  if (!failure) return;
  region.mrs.clear();
  throw *failure;
}

Regions::Mr Regions::register_range(uint64_t address, uint64_t length, unsigned access) const {
  Mr mr(ibv_reg_mr(device_->pd(), reinterpret_cast<void*>(address), length, device_access(access)));
  if (!mr) throw pin_error(address, length, writable(access), errno);
  return mr;
}

void Regions::remove(uint32_t handle) {
  std::shared_lock device(device_mutex_);
  std::unordered_map<uint32_t, Region>::node_type removed;  // deregistered without the lock
  std::lock_guard lock(mutex_);
  removed = regions_.extract(handle);
}

void Regions::revoke_remote() {
  std::unique_lock device(device_mutex_);
  remote_revoked_ = true;
  std::vector<Mr> revoked;
  {
    std::lock_guard lock(mutex_);
    for (auto& [handle, region] : regions_) {
      if ((region.access & fabric::kRemoteAccess) == 0) continue;
      region.access &= ~fabric::kRemoteAccess;  // what waits for its device is registered without them
      std::move(region.mrs.begin(), region.mrs.end(), std::back_inserter(revoked));
      region.mrs.clear();
    }
  }
  // A driver that refuses has left the peer its rights: nothing may be compared or kept then.
  std::atomic<int> refusal{0};
  in_parallel(revoked.size(), [&](uint64_t at) {
    if (const int error_number = ibv_dereg_mr(revoked[at].release())) refusal.store(error_number);
  });
  if (refusal.load() != 0)
    throw Error("INTERNAL", "the device did not take the peer's rights to memory back", refusal.load());
}

uint32_t Regions::rkey(uint32_t handle) const {
  std::lock_guard lock(mutex_);
  auto found = regions_.find(handle);
  return found == regions_.end() || found->second.mrs.empty() ? 0 : found->second.mrs.front()->rkey;
}

int Regions::View::buffers(uint32_t handle, uint64_t address, uint32_t length, Buffers& out) const {
  if (length == 0) return 0;
  const auto found = regions_.regions_.find(handle);
  if (found == regions_.regions_.end() || found->second.mrs.empty()) return kGone;
  const Region& region = found->second;
  if (length > region.piece) return kTooLong;
  const uint64_t offset = address - region.address;
  const uint64_t at = offset / region.piece;
  const uint64_t first = std::min<uint64_t>(length, (at + 1) * region.piece - offset);
  out[0] = {address, static_cast<uint32_t>(first), region.mrs[at]->lkey};
  if (first == length) return 1;
  out[1] = {address + first, static_cast<uint32_t>(length - first), region.mrs[at + 1]->lkey};
  return 2;
}

void Regions::View::check(uint32_t handle, uint64_t address, uint32_t length, unsigned rights) const {
  if (length == 0) return;
  const auto found = regions_.regions_.find(handle);
  if (found == regions_.regions_.end())
    return fabric::check_local_buffer(nullptr, handle, address, length, rights);
  const Region& region = found->second;
  const fabric::LocalRange range{region.address, region.length, region.access};
  fabric::check_local_buffer(&range, handle, address, length, rights);
  if (region.access != 0) return;
  const uint64_t piece = region.mrs.empty() ? piece_size(region.length, UINT64_MAX) : region.piece;
  if (length <= piece) return;
  throw Error("INVALID_ARGUMENT", "a request of " + std::to_string(length) +
                                      " bytes; memory to send from is registered in pieces of " +
                                      std::to_string(piece) + " bytes, and a request is at most as long");
}

// Alone with the table's shape; who looks something up meanwhile finds regions that wait still.
void Regions::bind(std::shared_ptr<Device> device) {
  std::unique_lock alone(device_mutex_);
  if (ended_) throw Error("CONNECTION_CLOSED", "the domain has been closed");
  device_ = std::move(device);
  std::vector<std::pair<uint32_t, Region>> registered;
  try {
    for (const auto& [handle, waiting] : regions_) {
      registered.emplace_back(handle, Region{waiting.address, waiting.length, waiting.access, {}, 0});
      register_with_device(registered.back().second);
    }
  } catch (...) {
    registered.clear();  // before the protection domain that they are of
    device_.reset();
    throw;
  }
  std::lock_guard lock(mutex_);
  for (auto& [handle, region] : registered) regions_[handle] = std::move(region);
}

void Regions::end() {
  std::unique_lock alone(device_mutex_);
  ended_ = true;
  {
    std::lock_guard lock(mutex_);
    for (auto& [handle, region] : regions_) region.mrs.clear();
  }
  device_.reset();
}

}  // namespace rdma_migrate::verbs
