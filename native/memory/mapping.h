// A RAM block's memory: a memfd, a file (hugetlbfs included) or a range that the embedder owns.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "memory/bitmap.h"
#include "memory/range.h"
#include "memory/shared_file.h"
#include "memory/vma.h"

namespace rdma_migrate::memory {

enum class FileMode {
  kCreate,  // must not exist; is made sparse, mode 0600
  kWrite,   // exists and has at least the length asked for
  kRead,    // the same, mapped PROT_READ
};

// Mapped shared, never copied. A file must keep its length while it is mapped: access past a truncation
// raises SIGBUS. Destroying the last reference unmaps, which takes tens of milliseconds for gigabytes in use:
// release it on a worker thread.
class Mapping {
 public:
  enum class Kind { kMemfd, kFile, kCaller };

  // All lengths are in bytes, not zero and a multiple of the page size (that of the huge pages, if any).
  //
  // huge_page_size: 0 for ordinary pages, else a size that /sys/kernel/mm/hugepages lists; the pages are
  // reserved at once. Throws Error: INVALID_ARGUMENT, OUT_OF_MEMORY.
  static std::shared_ptr<Mapping> memfd(const std::string& name, uint64_t length,
                                        uint64_t huge_page_size = 0);
  // A created file is removed again if it cannot be mapped. Throws Error: INVALID_ARGUMENT,
  // PERMISSION_DENIED, DISK_FULL, OUT_OF_MEMORY, IO_ERROR (with errno: EEXIST, ENOENT, ...).
  static std::shared_ptr<Mapping> file(const std::string& path, uint64_t length, FileMode mode);
  // A range of this process that stays mapped, as it is, until the last reference is gone. fd: the file of
  // a shared range (it is duplicated), or -1: only with it can holes of shared memory be found. Throws
  // Error: INVALID_ARGUMENT (also if part of the range is not mapped, or not from that file), IO_ERROR.
  // kLeaveOut: the range goes into no core dump; it stays so when the mapping is gone.
  enum class CoreDumps { kAsTheyAre, kLeaveOut };
  static std::shared_ptr<Mapping> caller(uint64_t address, uint64_t length, int fd = -1,
                                         CoreDumps dumps = CoreDumps::kAsTheyAre);

  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  Kind kind() const { return kind_; }
  uint8_t* data() const { return data_; }
  uint64_t address() const { return reinterpret_cast<uint64_t>(data_); }
  uint64_t length() const { return length_; }
  uint64_t page_size() const { return page_size_; }
  bool writable() const { return writable_; }
  // What messages call it: "memfd pc.ram", a path, "the caller's range at 0x...".
  const std::string& name() const { return name_; }

  // Whether it has a file. For a caller's range the file serves only to find holes.
  bool has_file() const { return file_ != nullptr; }
  // That file, open as long as the result lives; only if has_file(). Throws Error: IO_ERROR,
  // RESOURCE_LIMIT.
  SharedFile::Use file() const { return file_->use(); }
  // File offset of byte 0.
  uint64_t fd_offset() const { return fd_offset_; }
  bool is_hugetlb() const { return hugetlb_; }
  // SEEK_DATA on file() finds holes, even among pages written through a mapping and not yet on the disk.
  bool seeks_holes() const { return seeks_holes_; }
  // Bytes can be stored with pwrite(), which fails where a store to the memory would raise SIGBUS.
  bool stores_through_fd() const { return has_file() && !hugetlb_ && kind_ != Kind::kCaller; }
  // The file is in memory (tmpfs, a memfd), not of huge pages.
  bool is_in_memory() const { return in_memory_; }
  // Nobody can make the file shorter or longer.
  bool length_is_sealed() const { return length_sealed_; }
  // Stores of several threads through one file take turns in the system, by a lock that they wait for on
  // their processors. Who holds this first leaves its processor to others instead.
  std::mutex& store_turn() const { return store_turn_; }
  // It was made here, so that its pages are empty until somebody is known to have touched them: hints, for
  // who chooses the faster way to fill a page. Not of huge pages.
  bool knows_fresh_pages() const { return touched_ != nullptr; }
  // Only if knows_fresh_pages(); offset: below length().
  bool is_fresh(uint64_t offset) const { return !touched_->test(offset / page_size_); }
  // Whole pages. Any thread.
  void note_touched(const Range& pages) const;
  // The last run of data that SEEK_HOLE found. Finding the end of a run costs time in proportion to the run
  // (20 ms for 8 GiB of memfd), so that walking a block window by window would be quadratic without it. What
  // was data and is a hole by now is merely read needlessly.
  Range known_data() const;
  void remember_data(const Range& range) const;
  // The areas of a caller's range when it was handed over.
  const std::vector<Vma>& vmas() const { return vmas_; }

  // Throws Error("INVALID_ARGUMENT") unless [offset, offset + length) lies within the mapping.
  void check(uint64_t offset, uint64_t length, const char* operation) const;
  // check(), and that the mapping is writable.
  void check_writable(uint64_t offset, uint64_t length, const char* operation) const;

  // Writes changed pages and the length to the disk; nothing to do for other kinds. Throws Error: IO_ERROR,
  // DISK_FULL.
  void sync() const;

  // Before Linux 6.2 RDMA drivers pin every page as if for writing, which a read-only shared mapping refuses
  // (EFAULT). Makes the mapping of a file that was opened for reading private, in place: its bytes stay as
  // they are as long as the file is not written, and pinned pages become private copies.
  // False: nothing was changed. Throws Error like file().
  bool make_pinnable();

  // Whether the file has become shorter than `end` bytes of this mapping.
  bool was_truncated(uint64_t end) const;

  // The Error for a failed system call on part of this mapping, with the bytes needed and available.
  enum class Access { kRead, kWrite };
  Error error(const char* operation, const Range& range, Access access, int sys_errno) const;

 private:
  Mapping(Kind kind, std::string name, uint64_t length)
      : kind_(kind), name_(std::move(name)), length_(length) {}

  void own(UniqueFd fd, int flags, bool can_reopen);
  Error storage_failure(const std::string& what, uint64_t needed, int sys_errno) const;
  void check_length() const;
  void check_file(FileMode mode) const;
  void map();
  void begin_fresh();
  void find_fd_offset();

  Kind kind_;
  std::string name_;
  uint64_t length_;
  uint64_t page_size_ = 0;
  uint8_t* data_ = nullptr;
  std::unique_ptr<SharedFile> file_;
  uint64_t fd_offset_ = 0;
  bool writable_ = true;
  bool hugetlb_ = false;
  bool seeks_holes_ = false;
  bool in_memory_ = false;
  bool length_sealed_ = false;
  std::unique_ptr<Bitmap> touched_;
  std::mutex private_mutex_;
  bool private_ = false;
  std::vector<Vma> vmas_;
  mutable std::mutex store_turn_;
  mutable std::mutex known_data_mutex_;
  mutable Range known_data_;
};

// The Error for a failed system call on a file or memfd. fd: of the file or its folder, or -1; asked for free
// space.
Error storage_error(const std::string& what, uint64_t needed, int fd, int sys_errno);
// The same where the pool of huge pages is too small or missing.
Error huge_page_error(const std::string& what, uint64_t needed, uint64_t huge_page_size, int sys_errno);

}  // namespace rdma_migrate::memory
