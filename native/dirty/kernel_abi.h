// What older distributions' headers lack: parts of userfaultfd (Linux 5.19 to 6.7) and PAGEMAP_SCAN (6.7).
// From the kernel's documentation: admin-guide/mm/userfaultfd, admin-guide/mm/pagemap.
#pragma once

#include <linux/ioctl.h>

#include <cstdint>

namespace rdma_migrate::dirty::abi {

inline constexpr uint64_t kFeaturePagefaultFlagWp = uint64_t{1} << 0;
inline constexpr uint64_t kFeatureWpHugetlbfsShmem = uint64_t{1} << 12;  // 5.19
inline constexpr uint64_t kFeatureWpUnpopulated = uint64_t{1} << 13;     // 6.4
inline constexpr uint64_t kFeatureWpAsync = uint64_t{1} << 15;           // 6.7

// Entries of /proc/PID/pagemap.
inline constexpr uint64_t kPagemapSoftDirty = uint64_t{1} << 55;
inline constexpr uint64_t kPagemapUffdWp = uint64_t{1} << 57;  // 5.13
inline constexpr uint64_t kPagemapSwapped = uint64_t{1} << 62;
inline constexpr uint64_t kPagemapPresent = uint64_t{1} << 63;

struct PageRegion {
  uint64_t start;
  uint64_t end;
  uint64_t categories;
};

struct ScanArguments {
  uint64_t size;
  uint64_t flags;
  uint64_t start;
  uint64_t end;
  uint64_t walk_end;  // out
  uint64_t vec;
  uint64_t vec_len;
  uint64_t max_pages;
  uint64_t category_inverted;
  uint64_t category_mask;
  uint64_t category_anyof_mask;
  uint64_t return_mask;
};
static_assert(sizeof(PageRegion) == 24 && sizeof(ScanArguments) == 96);

inline constexpr unsigned long kPagemapScan = _IOWR('f', 16, ScanArguments);
inline constexpr uint64_t kScanWpMatching = 1;    // write-protects what it reports, in one step
inline constexpr uint64_t kScanCheckWpAsync = 2;  // fails if asynchronous write-protection is not set up
inline constexpr uint64_t kPageWritten = 1 << 1;
inline constexpr uint64_t kPagePresent = 1 << 3;
inline constexpr uint64_t kPageSwapped = 1 << 4;  // also the marker of a protected page that is not present

}  // namespace rdma_migrate::dirty::abi
