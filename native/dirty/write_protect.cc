#include "dirty/write_protect.h"

#include <algorithm>
#include <utility>

#include "dirty/protect_async.h"
#include "dirty/protect_sync.h"

namespace rdma_migrate::dirty {
namespace {

// A discarded page of a private file mapping is not zero but has the file's content, and nothing
// reports it.
bool is_private_file(const memory::Vma& vma) { return !vma.shared && vma.inode != 0; }

void check_kind(const memory::Mapping& mapping) {
  const auto refuse = [&](const char* why) {
    throw Error("TRACKER_UNAVAILABLE",
                "cannot track writes to " + mapping.name() + ": it is " + why +
                    "; map guest RAM in one piece, shared or anonymous, and for writing");
  };
  const auto& vmas = mapping.vmas();
  if (!mapping.writable()) refuse("mapped read-only");
  if (std::any_of(vmas.begin(), vmas.end(), is_private_file)) refuse("a private mapping of a file");
  const auto shares = [&](const memory::Vma& vma) { return vma.shared == vmas.front().shared; };
  if (!std::all_of(vmas.begin(), vmas.end(), shares)) {
    refuse("part private and part shared");
  }
}

bool is_asynchronous(ProtectMode mode) {
  if (mode == ProtectMode::kBest) return AsyncProtectTracker::supported();
  return mode == ProtectMode::kAsynchronous;
}

}  // namespace

std::unique_ptr<Tracker> track_by_write_protection(Blocks blocks, ProtectMode mode) {
  for (const auto& mapping : blocks) check_kind(*mapping);
  if (is_asynchronous(mode)) return std::make_unique<AsyncProtectTracker>(std::move(blocks));
  return std::make_unique<FaultThreadTracker>(std::move(blocks));
}

WriteProtectSupport write_protect_support(const Blocks& blocks) {
  const bool asynchronous = AsyncProtectTracker::supported();
  try {
    for (const auto& mapping : blocks) check_kind(*mapping);
    Userfaultfd trial = asynchronous ? AsyncProtectTracker::open() : FaultThreadTracker::open();
    for (const auto& mapping : blocks) {
      if (asynchronous) {
        trial.add(*mapping);
      } else {
        FaultThreadTracker::add(trial, *mapping);
      }
      trial.remove(*mapping);
    }
  } catch (const Error& error) {
    return {std::nullopt, error.what()};
  }
  return {asynchronous ? ProtectMode::kAsynchronous : ProtectMode::kFaultThread, ""};
}

}  // namespace rdma_migrate::dirty
