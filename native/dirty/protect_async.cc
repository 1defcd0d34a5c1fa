#include "dirty/protect_async.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace rdma_migrate::dirty {
namespace {

constexpr uint64_t kFeatures =
    abi::kFeatureWpAsync | abi::kFeatureWpUnpopulated | abi::kFeatureWpHugetlbfsShmem;
// The range of one system call: every few milliseconds a stop is seen and the address space is free for
// others.
constexpr uint64_t kWindow = uint64_t{1} << 30;
constexpr size_t kRegions = 2048;  // 48 KiB; when they are full, a scan continues from there

// Everything but protected pages: a page is unwritten only if it carries the protection, either itself or
// as a marker in place of an absent page. A page with neither (new, discarded, or dropped
// by reclaim after a write) counts as written; kernels differ in whether they report it so.
abi::ScanArguments scan_arguments(uint64_t start, uint64_t end, std::vector<abi::PageRegion>& regions) {
  abi::ScanArguments arguments = {};
  arguments.size = sizeof arguments;
  arguments.flags = abi::kScanWpMatching | abi::kScanCheckWpAsync;
  arguments.start = start;
  arguments.end = end;
  arguments.vec = reinterpret_cast<uint64_t>(regions.data());
  arguments.vec_len = regions.size();
  arguments.category_inverted = abi::kPagePresent;
  arguments.category_anyof_mask = abi::kPageWritten | abi::kPagePresent;
  arguments.return_mask = abi::kPageWritten | abi::kPagePresent | abi::kPageSwapped;
  return arguments;
}

bool is_absent(const abi::PageRegion& region) {
  return (region.categories & (abi::kPagePresent | abi::kPageSwapped)) == 0;
}

bool is_written(const abi::PageRegion& region) {
  return (region.categories & abi::kPageWritten) != 0 || is_absent(region);
}

UniqueFd open_pagemap() { return UniqueFd(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)); }

}  // namespace

bool AsyncProtectTracker::supported() {
  const auto features = Userfaultfd::features(Userfaultfd::Faults::kNone);
  if (!features || (*features & kFeatures) != kFeatures) return false;
  // Both came with Linux 6.7, but a sandbox may have one without the other.
  const UniqueFd pagemap = open_pagemap();
  std::vector<abi::PageRegion> regions(1);
  abi::ScanArguments arguments = scan_arguments(0, 0, regions);
  arguments.flags = 0;
  return pagemap && ioctl(pagemap.get(), abi::kPagemapScan, &arguments) == 0;
}

Userfaultfd AsyncProtectTracker::open() { return Userfaultfd(Userfaultfd::Faults::kNone, kFeatures); }

AsyncProtectTracker::AsyncProtectTracker(Blocks blocks) : Tracker(std::move(blocks)), regions_(kRegions) {}

void AsyncProtectTracker::begin() {
  pagemap_ = open_pagemap();
  if (!pagemap_) {
    throw Error("TRACKER_UNAVAILABLE", "cannot open /proc/self/pagemap; is /proc mounted?", errno);
  }
  protection_ = std::make_unique<Userfaultfd>(open());
  for (const auto& mapping : blocks()) protection_->add(*mapping);
  for (const auto& mapping : blocks()) {
    scan(*mapping, {});
    holes_.push_back(HoleWatch::needed(*mapping) ? std::make_unique<HoleWatch>(mapping) : nullptr);
  }
}

uint64_t AsyncProtectTracker::gather(Bitmaps bitmaps) {
  uint64_t pages = 0;
  for (size_t i = 0; i < blocks().size(); ++i) {
    pages += scan(*blocks()[i], {bitmaps[i].get(), holes_[i].get()});
    if (holes_[i]) pages += holes_[i]->update(bitmaps[i].get());
  }
  return pages;
}

void AsyncProtectTracker::end() noexcept {
  if (protection_) {
    for (const auto& mapping : blocks()) protection_->remove(*mapping);
  }
  protection_.reset();
  pagemap_.reset();
  holes_.clear();
}

uint64_t AsyncProtectTracker::scan(const memory::Mapping& mapping, const Findings& found) {
  uint64_t pages = 0;
  for (uint64_t offset = 0; offset < mapping.length(); offset += kWindow) {
    throw_if_stopped();
    const uint64_t length = std::min(kWindow, mapping.length() - offset);
    try {
      pages += scan_window(mapping, offset, length, found);
    } catch (...) {
      // Part of the window may be protected again without having been reported.
      found.add(offset / mapping.page_size(), length / mapping.page_size());
      throw;
    }
  }
  return pages;
}

uint64_t AsyncProtectTracker::take(const memory::Mapping& mapping, const abi::PageRegion& region,
                                   const Findings& found) {
  if (!is_written(region)) return 0;
  // For an absent page PAGEMAP_SCAN may leave no marker, and would then report it for ever: it leaves none
  // for huge pages, nor, on kernels without a fix of 2026, for pages that have a page table. A write before
  // this call is reported below, after it.
  if (is_absent(region) && !protection_->protect(region.start, region.end - region.start)) {
    throw Error("TRACKER_UNAVAILABLE", "cannot write-protect " + mapping.name() + " again", errno);
  }
  const uint64_t count = (region.end - region.start) / mapping.page_size();
  found.add((region.start - mapping.address()) / mapping.page_size(), count);
  return count;
}

uint64_t AsyncProtectTracker::scan_window(const memory::Mapping& mapping, uint64_t offset, uint64_t length,
                                          const Findings& found) {
  const uint64_t end = mapping.address() + offset + length;
  uint64_t pages = 0;
  for (uint64_t at = mapping.address() + offset; at < end;) {
    abi::ScanArguments arguments = scan_arguments(at, end, regions_);
    const int count = ioctl(pagemap_.get(), abi::kPagemapScan, &arguments);
    if (count < 0) {
      throw Error(
          "TRACKER_UNAVAILABLE",
          "PAGEMAP_SCAN of " + mapping.name() + " failed; is it still mapped as it was when tracking began?",
          errno);
    }
    for (int i = 0; i < count; ++i) pages += take(mapping, regions_[i], found);
    at = arguments.walk_end;
  }
  return pages;
}

}  // namespace rdma_migrate::dirty
