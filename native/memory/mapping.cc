#include "memory/mapping.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstdio>
#include <limits>

#include "memory/core_dumps.h"
#include "memory/memory_limit.h"

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif

namespace rdma_migrate::memory {
namespace {

// Whatever the umask is.
constexpr mode_t kPrivateMode = 0600;

uint64_t host_page_size() { return static_cast<uint64_t>(sysconf(_SC_PAGESIZE)); }

std::string hex(uint64_t number) {
  char text[19];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(number));
  return text;
}

// File systems on which SEEK_DATA is known to see pages that were written through a mapping and are not on
// the disk yet. On others (ZFS had long-lived faults there) a hole is not trusted: a wrong one would lose
// guest memory.
bool tells_holes(decltype(std::declval<struct statfs>().f_type) type) {
  switch (static_cast<uint32_t>(type)) {
    case TMPFS_MAGIC:
    case EXT4_SUPER_MAGIC:
    case XFS_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case OVERLAYFS_SUPER_MAGIC:
      return true;
    default:
      return false;
  }
}

// A write past the limit would not only fail but raise SIGXFSZ, which ends the process.
void check_file_size_limit(const std::string& path, uint64_t length) {
  struct rlimit limit {};
  if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && length > limit.rlim_cur) {
    throw Error("DISK_FULL", path + ": " + format_bytes(length) +
                                 " needed, but this process may write files of " +
                                 format_bytes(limit.rlim_cur) + " only (ulimit -f)");
  }
}

// Removes a newly created file, unless keep() is called.
class NewFile {
 public:
  explicit NewFile(const char* path) : path_(path) {}
  ~NewFile() {
    if (path_ != nullptr) unlink(path_);
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;
  void keep() { path_ = nullptr; }

 private:
  const char* path_;
};

// What counts is what fstat says: file systems that keep no modes (vfat, 9p) refuse to change them, or only
// seem to do it.
void make_private(int fd, const std::string& name, uint64_t length) {
  const int refusal = fchmod(fd, kPrivateMode) == 0 ? 0 : errno;
  struct stat status {};
  if (fstat(fd, &status) != 0) throw storage_error("cannot make " + name, length, -1, errno);
  if ((status.st_mode & (S_IRWXG | S_IRWXO)) == 0) return;
  throw storage_error("cannot keep other users out of " + name +
                          ": its file system does not keep modes; choose another, or mount it with umask=077",
                      length, -1, refusal == 0 ? EPERM : refusal);
}

unsigned memfd_flags(uint64_t huge_page_size) {
  if (huge_page_size == 0) return MFD_CLOEXEC | MFD_ALLOW_SEALING;
  if (!std::has_single_bit(huge_page_size) || huge_page_size < host_page_size()) {
    throw Error("INVALID_ARGUMENT", "huge pages of " + format_bytes(huge_page_size) +
                                        ": expected a size from " + "/sys/kernel/mm/hugepages");
  }
  return MFD_CLOEXEC | MFD_HUGETLB |
         static_cast<unsigned>(std::countr_zero(huge_page_size)) << MFD_HUGE_SHIFT;
}

int open_flags(FileMode mode) {
  // O_NONBLOCK: a FIFO must be refused, not waited for.
  const int common = O_CLOEXEC | O_NONBLOCK;
  if (mode == FileMode::kRead) return O_RDONLY | common;
  return mode == FileMode::kCreate ? O_RDWR | O_CREAT | O_EXCL | common : O_RDWR | common;
}

}  // namespace

std::shared_ptr<Mapping> Mapping::memfd(const std::string& name, uint64_t length, uint64_t huge_page_size) {
  std::shared_ptr<Mapping> mapping(new Mapping(Kind::kMemfd, "memfd " + name, length));
  const int fd = memfd_create(name.substr(0, 249).c_str(), memfd_flags(huge_page_size));
  if (fd < 0) {
    const int cause = errno;
    const bool no_pool = huge_page_size != 0 && (cause == ENODEV || cause == EINVAL || cause == ENOENT);
    throw no_pool ? huge_page_error(mapping->name_, length, huge_page_size, cause)
                  : storage_error(mapping->name_, length, -1, cause);
  }
  mapping->own(UniqueFd(fd), O_RDWR, false);
  // Through /proc it can be opened by those whom its mode lets in; the kernel makes it 0777.
  make_private(fd, mapping->name_, length);
  mapping->check_length();
  const MemoryLimit limit = memory_limit();
  if (length > limit.bytes) {
    throw Error("OUT_OF_MEMORY", mapping->name_ + ": " + format_bytes(length) + " needed, but " +
                                     limit.source + " give this process " + format_bytes(limit.bytes) +
                                     " at most");
  }
  if (ftruncate(fd, static_cast<off_t>(length)) != 0) throw storage_error(mapping->name_, length, -1, errno);
  // Its length is sealed now, so that nothing that opens it through /proc can make us run into SIGBUS.
  mapping->length_sealed_ =
      huge_page_size == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0;
  mapping->map();
  mapping->begin_fresh();
  return mapping;
}

std::shared_ptr<Mapping> Mapping::file(const std::string& path, uint64_t length, FileMode mode) {
  if (path.empty() || path.find('\0') != std::string::npos) {
    throw Error("INVALID_ARGUMENT", "a file to map needs a name without zero bytes");
  }
  std::shared_ptr<Mapping> mapping(new Mapping(Kind::kFile, path, length));
  mapping->writable_ = mode != FileMode::kRead;
  const int fd = open(path.c_str(), open_flags(mode), kPrivateMode);
  if (fd < 0) throw storage_error("cannot open " + path, length, -1, errno);
  NewFile created(mode == FileMode::kCreate ? path.c_str() : nullptr);
  mapping->own(UniqueFd(fd), mode == FileMode::kRead ? O_RDONLY : O_RDWR, true);
  mapping->check_length();
  mapping->check_file(mode);
  if (mode == FileMode::kCreate) {
    // Not by fd: with many files it may have been closed meanwhile, and its number reused.
    const auto use = mapping->file();
    make_private(use.get(), path, length);  // a umask may have taken the owner's rights too
    if (ftruncate(use.get(), static_cast<off_t>(length)) != 0)
      throw storage_error("cannot make " + path, length, use.get(), errno);
  }
  mapping->map();
  if (mode == FileMode::kCreate) mapping->begin_fresh();
  created.keep();
  return mapping;
}

std::shared_ptr<Mapping> Mapping::caller(uint64_t address, uint64_t length, int fd, CoreDumps dumps) {
  std::shared_ptr<Mapping> mapping(
      new Mapping(Kind::kCaller, "the caller's range at " + hex(address), length));
  mapping->page_size_ = host_page_size();
  mapping->check_length();
  if (address == 0 || address % mapping->page_size_ != 0 || length > UINT64_MAX - address) {
    throw Error("INVALID_ARGUMENT", mapping->name_ + ": expected an address that is a multiple of " +
                                        std::to_string(mapping->page_size_) +
                                        " and does not wrap with the length");
  }
  mapping->vmas_ = vmas_in(address, length);
  uint64_t covered = address;
  for (const Vma& vma : mapping->vmas_) {
    if (vma.start > covered || !vma.readable) break;
    covered = vma.end;
    mapping->writable_ = mapping->writable_ && vma.writable;
  }
  if (covered < address + length) {
    throw Error("INVALID_ARGUMENT", mapping->name_ + ": nothing readable is mapped at " + hex(covered));
  }
  mapping->data_ = reinterpret_cast<uint8_t*>(address);
  if (fd >= 0) {
    const int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (own < 0)
      throw Error("INVALID_ARGUMENT", mapping->name_ + ": cannot use fd " + std::to_string(fd), errno);
    mapping->own(UniqueFd(own), O_RDWR, false);
    mapping->page_size_ = host_page_size();
    mapping->find_fd_offset();
  }
  if (dumps == CoreDumps::kLeaveOut) leave_out_of_core_dumps(mapping->data_, length);
  return mapping;
}

Mapping::~Mapping() {
  if (data_ != nullptr && kind_ != Kind::kCaller) munmap(data_, length_);
}

void Mapping::own(UniqueFd fd, int flags, bool can_reopen) {
  struct statfs system {};
  const bool told = fstatfs(fd.get(), &system) == 0;
  file_ = std::make_unique<SharedFile>(std::move(fd), name_, flags, can_reopen);
  if (!told) throw storage_error(name_, length_, -1, errno);
  hugetlb_ = system.f_type == HUGETLBFS_MAGIC;
  in_memory_ = system.f_type == TMPFS_MAGIC;
  seeks_holes_ = tells_holes(system.f_type);
  page_size_ = hugetlb_ ? static_cast<uint64_t>(system.f_bsize) : host_page_size();
}

void Mapping::check_length() const {
  if (length_ == 0 || length_ % page_size_ != 0 || length_ > std::numeric_limits<int64_t>::max()) {
    throw Error("INVALID_ARGUMENT", name_ + ": cannot map " + format_bytes(length_) +
                                        ": expected a multiple of the page size, " +
                                        format_bytes(page_size_));
  }
}

void Mapping::check_file(FileMode mode) const {
  struct stat status {};
  if (fstat(file().get(), &status) != 0) throw storage_failure(name_, length_, errno);
  if (!S_ISREG(status.st_mode)) throw Error("INVALID_ARGUMENT", name_ + " is not a regular file");
  if (mode != FileMode::kRead) check_file_size_limit(name_, length_);
  if (mode != FileMode::kCreate && static_cast<uint64_t>(status.st_size) < length_) {
    throw Error("INVALID_ARGUMENT", name_ + " has " + format_bytes(static_cast<uint64_t>(status.st_size)) +
                                        ", " + format_bytes(length_) + " are to be mapped");
  }
}

void Mapping::map() {
  void* memory =
      mmap(nullptr, length_, writable_ ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, file().get(), 0);
  if (memory == MAP_FAILED) {
    const int cause = errno;
    const std::string what = "cannot map " + name_;
    throw hugetlb_ && cause == ENOMEM ? huge_page_error(what, length_, page_size_, cause)
                                      : storage_failure(what, length_, cause);
  }
  data_ = static_cast<uint8_t*>(memory);
  leave_out_of_core_dumps(memory, length_);
}

// Where the file system tells holes truly it also keeps what is written and what is mapped as one.
void Mapping::begin_fresh() {
  if (!hugetlb_ && seeks_holes_) touched_ = std::make_unique<Bitmap>(length_ / page_size_);
}

void Mapping::note_touched(const Range& pages) const {
  if (!touched_) return;
  const uint64_t first = pages.offset / page_size_;
  const uint64_t end = pages.end() / page_size_;
  // As a rule they are known already, and several threads look at them.
  const uint64_t from = touched_->next_clear(first, end);
  if (from < end) touched_->set_range(from, end - from);
}

bool Mapping::make_pinnable() {
  if (kind_ != Kind::kFile || writable_) return false;
  const std::lock_guard lock(private_mutex_);
  if (private_) return true;  // by another thread meanwhile
  if (mmap(data_, length_, PROT_READ, MAP_PRIVATE | MAP_FIXED, file().get(), 0) == MAP_FAILED) {
    throw storage_failure("cannot map " + name_ + " again", length_, errno);
  }
  leave_out_of_core_dumps(data_, length_);
  return private_ = true;
}

// The range must be one shared mapping of the file: the kernel says so, not the caller. Device numbers are
// not compared because btrfs and overlayfs show different ones in fstat and in /proc.
void Mapping::find_fd_offset() {
  struct stat status {};
  const bool known = fstat(file().get(), &status) == 0;
  const Vma& first = vmas_.front();
  for (const Vma& vma : vmas_) {
    if (!known || !vma.shared || vma.inode != status.st_ino ||
        vma.file_offset - first.file_offset != vma.start - first.start) {
      throw Error("INVALID_ARGUMENT",
                  name_ + " is not one shared mapping of the file that was given with it");
    }
  }
  fd_offset_ = first.file_offset + (address() - first.start);
}

void Mapping::check(uint64_t offset, uint64_t length, const char* operation) const {
  if (offset > length_ || length > length_ - offset) {
    throw Error("INVALID_ARGUMENT", std::string(operation) + ": " + std::to_string(length) +
                                        " bytes at offset " + std::to_string(offset) + " leave " + name_ +
                                        ", which has " + format_bytes(length_));
  }
}

void Mapping::check_writable(uint64_t offset, uint64_t length, const char* operation) const {
  check(offset, length, operation);
  if (!writable_) {
    throw Error("INVALID_ARGUMENT", std::string(operation) + ": " + name_ + " is mapped for reading only");
  }
}

Range Mapping::known_data() const {
  std::lock_guard lock(known_data_mutex_);
  return known_data_;
}

void Mapping::remember_data(const Range& range) const {
  std::lock_guard lock(known_data_mutex_);
  known_data_ = range;
}

void Mapping::sync() const {
  if (kind_ != Kind::kFile || !writable_) return;
  // msync alone leaves the length of a new file out on some file systems.
  if (msync(data_, length_, MS_SYNC) != 0 || fsync(file().get()) != 0) {
    throw storage_failure("cannot write " + name_ + " to the disk", length_, errno);
  }
}

}  // namespace rdma_migrate::memory
