#include "dirty/protect_sync.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "dirty/kernel_abi.h"
#include "memory/madvise.h"
#include "thread.h"

namespace rdma_migrate::dirty {
namespace {

constexpr uint64_t kWindow = uint64_t{256} << 20;  // between two checks for a stop
constexpr size_t kFaultBatch = 32;
// As many as the kernel has: memory that needs a missing one is refused.
constexpr uint64_t kFeatures =
    abi::kFeaturePagefaultFlagWp | abi::kFeatureWpHugetlbfsShmem | abi::kFeatureWpUnpopulated;

bool is_protected(uint64_t entry) { return (entry & abi::kPagemapUffdWp) != 0; }

}  // namespace

Userfaultfd FaultThreadTracker::open() {
  constexpr auto kAnyone = Userfaultfd::Faults::kAnyone;
  return Userfaultfd(kAnyone, Userfaultfd::features(kAnyone).value_or(0) & kFeatures);
}

// A fault of a huge page is resolved for all of it, but the page size of a caller's range is not
// known. The kernel reveals it by refusing an operation, here one without effect, on a part of a huge page.
void FaultThreadTracker::add(Userfaultfd& protection, const memory::Mapping& mapping) {
  protection.add(mapping);
  for (const memory::Vma& vma : mapping.vmas()) {
    if (protection.unprotect(std::max(vma.start, mapping.address()), mapping.page_size()) || errno != EINVAL)
      continue;
    throw Error(
        "TRACKER_UNAVAILABLE",
        "cannot track writes to " + mapping.name() +
            ": it is on huge pages, which this kernel can track only in memory that mapMemfd or mapFile "
            "made; Linux 6.7 and later can",
        EINVAL);
  }
}

FaultThreadTracker::FaultThreadTracker(Blocks blocks) : Tracker(std::move(blocks)) {}

void FaultThreadTracker::begin() {
  protection_ = std::make_unique<Userfaultfd>(open());
  fills_holes_ = (protection_->granted() & abi::kFeatureWpUnpopulated) == 0;
  pagemap_ = std::make_unique<Pagemap>(UniqueFd(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)));
  for (const auto& mapping : blocks()) add(*protection_, *mapping);
  thread_ = start_thread([this] { serve_faults(); });
  for (const auto& mapping : blocks()) {
    scan(*mapping, {});
    holes_.push_back(HoleWatch::needed(*mapping) ? std::make_unique<HoleWatch>(mapping) : nullptr);
  }
}

uint64_t FaultThreadTracker::gather(Bitmaps bitmaps) {
  uint64_t pages = 0;
  for (size_t i = 0; i < blocks().size(); ++i) {
    pages += scan(*blocks()[i], {bitmaps[i].get(), holes_[i].get()});
    if (holes_[i]) pages += holes_[i]->update(bitmaps[i].get());
  }
  return pages;
}

void FaultThreadTracker::end() noexcept {
  // The thread serves until the last page is writable, so that no writer is left waiting.
  release();
  quit_.signal();
  if (thread_.joinable()) thread_.join();
  protection_.reset();
  pagemap_.reset();
  holes_.clear();
}

void FaultThreadTracker::release() noexcept {
  if (!protection_) return;
  for (const auto& mapping : blocks()) {
    protection_->remove(*mapping);
    protection_->wake(mapping->address(), mapping->length());
  }
}

void FaultThreadTracker::serve_faults() noexcept {
  try {
    while (serve_batch()) {
    }
  } catch (...) {
    // The guest comes first: it runs on untracked, and the next collect() says so.
    broken_.store(true);
    release();
  }
}

// Waits for faults or the end of the watch; false at the end.
bool FaultThreadTracker::serve_batch() {
  pollfd sources[] = {{protection_->fd(), POLLIN, 0}, {quit_.fd(), POLLIN, 0}};
  if (poll(sources, 2, -1) < 0) {
    if (errno == EINTR) return true;
    throw Error("INTERNAL", "cannot wait for write faults", errno);
  }
  if (sources[1].revents != 0) return false;
  uffd_msg messages[kFaultBatch];
  const ssize_t got = ::read(protection_->fd(), messages, sizeof messages);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return true;
  if (got <= 0) throw Error("INTERNAL", "cannot read write faults", got < 0 ? errno : 0);
  for (size_t i = 0; i < static_cast<size_t>(got) / sizeof(uffd_msg); ++i) {
    if (messages[i].event == UFFD_EVENT_PAGEFAULT) let_writer_go(messages[i].arg.pagefault.address);
  }
  return true;
}

void FaultThreadTracker::let_writer_go(uint64_t address) const {
  for (const auto& mapping : blocks()) {
    if (address - mapping->address() >= mapping->length()) continue;
    const uint64_t page = address - (address - mapping->address()) % mapping->page_size();
    if (protection_->unprotect(page, mapping->page_size())) return;
    // No longer watched, or unmapped: the writer tries again and finds that out. Any other error
    // would be retried for ever.
    if (errno == ENOENT || errno == ESRCH) {
      protection_->wake(page, mapping->page_size());
      return;
    }
    throw Error("INTERNAL", "cannot make a page writable", errno);
  }
}

// Protects first, then sets the bits: whatever takes the bits meanwhile copies what was written so far, and
// later writes show again.
void FaultThreadTracker::take(const memory::Mapping& mapping, uint64_t first, uint64_t count,
                              const Findings& found) {
  try {
    protect(mapping, mapping.address() + first * mapping.page_size(), count * mapping.page_size());
  } catch (...) {
    found.add(first, count);
    throw;
  }
  found.add(first, count);
}

// A page without protection was written, or lost it with its page table entry. It is
// protected again AFTER it was found: a page that is written meanwhile is found by the next call.
uint64_t FaultThreadTracker::scan(const memory::Mapping& mapping, const Findings& found) {
  uint64_t pages = 0;
  const auto visit = [&](uint64_t address, std::span<const uint64_t> entries) {
    for (size_t at = 0; at < entries.size();) {
      const size_t stop = run_end(entries, at, is_protected);
      if (!is_protected(entries[at])) {
        const uint64_t begin = address + at * pagemap_->page_size() - mapping.address();
        const uint64_t end = address + stop * pagemap_->page_size() - mapping.address();
        const uint64_t first = begin / mapping.page_size();
        const uint64_t count = (end + mapping.page_size() - 1) / mapping.page_size() - first;
        take(mapping, first, count, found);
        pages += count;
      }
      at = stop;
    }
  };
  for (uint64_t offset = 0; offset < mapping.length(); offset += kWindow) {
    throw_if_stopped();
    pagemap_->read(mapping.address() + offset, std::min(kWindow, mapping.length() - offset), visit);
  }
  if (broken_.load()) {
    found.add(0, pages_of(mapping));
    throw Error("TRACKER_UNAVAILABLE",
                "the thread that serves write faults has failed; the guest runs on untracked, so start the "
                "migration again");
  }
  return pages;
}

void FaultThreadTracker::protect(const memory::Mapping& mapping, uint64_t address, uint64_t length) {
  const bool anonymous = !HoleWatch::needed(mapping);
  if (anonymous && fills_holes_ &&
      madvise(reinterpret_cast<void*>(address), length, MADV_POPULATE_READ) != 0) {
    throw Error("TRACKER_UNAVAILABLE",
                "cannot map the zero page where " + mapping.name() +
                    " was never touched, which write-protection needs on this kernel (5.14 and later can)",
                errno);
  }
  if (!protection_->protect(address, length)) {
    throw Error("TRACKER_UNAVAILABLE", "cannot write-protect " + mapping.name() + " again", errno);
  }
}

}  // namespace rdma_migrate::dirty
