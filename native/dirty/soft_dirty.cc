#include "dirty/soft_dirty.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <utility>

#include "dirty/kernel_abi.h"

namespace rdma_migrate::dirty {
namespace {

// A page is unwritten if it is in the page tables and its bit is clear.
bool is_clean(uint64_t entry) {
  return (entry & (abi::kPagemapPresent | abi::kPagemapSwapped)) != 0 &&
         (entry & abi::kPagemapSoftDirty) == 0;
}

bool is_absent(uint64_t entry) {
  return (entry & (abi::kPagemapPresent | abi::kPagemapSwapped | abi::kPagemapSoftDirty)) == 0;
}

Error not_there(const memory::Mapping& mapping, pid_t pid, const char* why) {
  return Error("TRACKER_UNAVAILABLE", "process " + std::to_string(pid) + " does not share the memory of " +
                                          mapping.name() + ": " + why);
}

uint64_t inode_of(const memory::Mapping& mapping) {
  struct stat status {};
  if (mapping.has_file() && fstat(mapping.file().get(), &status) == 0) return status.st_ino;
  return 0;
}

}  // namespace

bool SoftDirtyTracker::supported() {
  // A new mapping counts as dirty if the kernel keeps the bits.
  const auto size = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* page = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return false;
  *static_cast<volatile char*>(page) = 1;
  uint64_t entry = 0;
  const UniqueFd pagemap(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  const auto at = static_cast<off_t>(reinterpret_cast<uint64_t>(page) / size * sizeof entry);
  const bool read = pagemap && pread(pagemap.get(), &entry, sizeof entry, at) == sizeof entry;
  munmap(page, size);
  return read && (entry & abi::kPagemapSoftDirty) != 0;
}

SoftDirtyTracker::SoftDirtyTracker(Blocks blocks, SoftDirtyOptions options)
    : Tracker(std::move(blocks)), options_(std::move(options)) {
  if (!options_.addresses.empty() && options_.addresses.size() != this->blocks().size()) {
    throw Error("INVALID_ARGUMENT", "expected " + std::to_string(this->blocks().size()) +
                                        " addresses, one per block, but received " +
                                        std::to_string(options_.addresses.size()));
  }
  for (const auto& mapping : this->blocks()) {
    if (mapping->page_size() != static_cast<uint64_t>(sysconf(_SC_PAGESIZE))) {
      throw Error("TRACKER_UNAVAILABLE",
                  "the kernel keeps no soft-dirty bits for the huge pages of " + mapping->name());
    }
    if (!HoleWatch::needed(*mapping))
      throw not_there(*mapping, options_.pid, "it is private to this process");
  }
  target_ = std::make_unique<TargetProcess>(options_.pid);
}

SoftDirtyTracker::~SoftDirtyTracker() { stop(); }

void SoftDirtyTracker::begin() {
  if (!supported()) {
    throw Error("TRACKER_UNAVAILABLE",
                "the kernel keeps no soft-dirty bits (CONFIG_MEM_SOFT_DIRTY); use write-protect or hash");
  }
  locate();
  clear_bits();
  for (const auto& mapping : blocks()) {
    holes_.push_back(std::make_unique<HoleWatch>(mapping));
    absent_.push_back(std::make_unique<memory::Bitmap>(pages_of(*mapping)));
  }
  for (size_t i = 0; i < blocks().size(); ++i) {
    throw_if_stopped();
    read_block(i, nullptr);
    take_absent(i, nullptr);
  }
}

uint64_t SoftDirtyTracker::gather(Bitmaps bitmaps) {
  found_ = 0;
  const auto areas = target_->areas();
  for (size_t i = 0; i < blocks().size(); ++i) check_block(i, areas);
  if (!read_bits(bitmaps)) {
    // Something else continued it while its bits were read and cleared.
    for (const auto& bitmap : bitmaps) bitmap->set_range(0, bitmap->pages());
  }
  for (size_t i = 0; i < blocks().size(); ++i) {
    found_ += holes_[i]->update(bitmaps[i].get());
    take_absent(i, bitmaps[i].get());
  }
  return found_;
}

void SoftDirtyTracker::end() noexcept {
  pagemap_.reset();
  target_.reset();
  holes_.clear();
  absent_.clear();
}

bool SoftDirtyTracker::read_bits(Bitmaps bitmaps) {
  pagemap_ = std::make_unique<Pagemap>(target_->open("pagemap", O_RDONLY));
  const auto clear = target_->open("clear_refs", O_WRONLY);
  const auto start = std::chrono::steady_clock::now();
  Halt halt(*target_, options_.cgroup, options_.stop_timeout);
  for (size_t i = 0; i < blocks().size(); ++i) read_block(i, bitmaps[i].get());
  if (write(clear.get(), "4", 1) != 1) {
    throw Error("TRACKER_UNAVAILABLE",
                "cannot clear the soft-dirty bits of process " + std::to_string(options_.pid), errno);
  }
  const bool stood = !options_.cgroup.empty() || target_->stands();
  halt.end();
  note_pause(std::chrono::steady_clock::now() - start);
  return stood;
}

void SoftDirtyTracker::clear_bits() {
  pagemap_ = std::make_unique<Pagemap>(target_->open("pagemap", O_RDONLY));
  if (write(target_->open("clear_refs", O_WRONLY).get(), "4", 1) == 1) return;
  throw Error("TRACKER_UNAVAILABLE",
              "cannot clear the soft-dirty bits of process " + std::to_string(options_.pid), errno);
}

// The target is stopped: no check for stop() here, this takes milliseconds.
void SoftDirtyTracker::read_block(size_t block, memory::Bitmap* dirty) {
  absent_[block]->clear_range(0, absent_[block]->pages());
  pagemap_->read(addresses_[block], blocks()[block]->length(),
                 [&](uint64_t address, std::span<const uint64_t> entries) {
                   const uint64_t first = (address - addresses_[block]) / pagemap_->page_size();
                   for (size_t at = 0; at < entries.size();) {
                     if (is_clean(entries[at])) {
                       at = run_end(entries, at, is_clean);
                       continue;
                     }
                     const size_t stop = run_end(entries, at, is_absent);
                     const bool absent = is_absent(entries[at]);
                     const size_t end = absent ? stop : std::min(stop, run_end(entries, at, is_clean));
                     if (absent) {
                       absent_[block]->set_range(first + at, end - at);
                     } else if (dirty != nullptr) {
                       dirty->set_range(first + at, end - at);
                       holes_[block]->written(first + at, end - at);
                       found_ += end - at;
                     }
                     at = end;
                   }
                 });
}

void SoftDirtyTracker::take_absent(size_t block, memory::Bitmap* dirty) {
  const memory::Bitmap& data = holes_[block]->data();
  std::vector<uint64_t> addresses;
  for (uint64_t index = 0; index < data.words(); ++index) {
    uint64_t bits = data.word(index) & absent_[block]->word(index);
    if (dirty != nullptr) dirty->merge(index, bits);
    if (dirty != nullptr) found_ += static_cast<uint64_t>(std::popcount(bits));
    for (; bits != 0; bits &= bits - 1) {
      const uint64_t page = index * 64 + static_cast<uint64_t>(std::countr_zero(bits));
      holes_[block]->written(page, 1);
      addresses.push_back(addresses_[block] + page * pagemap_->page_size());
    }
    if (addresses.size() < 65536) continue;
    throw_if_stopped();
    target_->touch(addresses);
    addresses.clear();
  }
  target_->touch(addresses);
}

void SoftDirtyTracker::locate() {
  const auto areas = target_->areas();
  addresses_ = options_.addresses;
  if (addresses_.empty()) {
    for (const auto& mapping : blocks()) addresses_.push_back(find_block(*mapping, areas));
  }
  for (size_t i = 0; i < blocks().size(); ++i) check_block(i, areas);
}

uint64_t SoftDirtyTracker::find_block(const memory::Mapping& mapping,
                                      const std::vector<TargetArea>& areas) const {
  const uint64_t inode = inode_of(mapping);
  if (inode == 0) throw not_there(mapping, options_.pid, "its file is not known; give the address there");
  uint64_t found = 0;
  for (const TargetArea& area : areas) {
    const bool holds = area.inode == inode && area.shared && area.file_offset <= mapping.fd_offset() &&
                       mapping.fd_offset() - area.file_offset < area.end - area.start;
    if (!holds) continue;
    if (found != 0)
      throw not_there(mapping, options_.pid, "it is mapped there more than once; give the address");
    found = area.start + (mapping.fd_offset() - area.file_offset);
  }
  if (found == 0) throw not_there(mapping, options_.pid, "its file is not mapped there");
  return found;
}

void SoftDirtyTracker::check_block(size_t block, const std::vector<TargetArea>& areas) const {
  const memory::Mapping& mapping = *blocks()[block];
  const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE)), start = addresses_[block];
  if (start % page != 0 || start > UINT64_MAX - mapping.length()) {
    throw Error("INVALID_ARGUMENT",
                "address " + std::to_string(start) + " of " + mapping.name() + " is impossible");
  }
  const uint64_t inode = inode_of(mapping);
  uint64_t covered = start;
  for (const TargetArea& area : areas) {
    if (area.end <= covered || area.start > covered) continue;
    if (!area.shared) throw not_there(mapping, options_.pid, "the memory at that address is private");
    const uint64_t offset = area.file_offset + (covered - area.start);
    if (inode != 0 && (area.inode != inode || offset != mapping.fd_offset() + (covered - start))) {
      throw not_there(mapping, options_.pid, "another file or another part of it is mapped at that address");
    }
    covered = area.end;
    if (covered - start >= mapping.length()) return;
  }
  throw not_there(mapping, options_.pid, "that much is not mapped at that address");
}

}  // namespace rdma_migrate::dirty
