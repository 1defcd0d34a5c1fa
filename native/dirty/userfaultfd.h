// userfaultfd write-protection of this process's own memory (userfaultfd(2)).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "fd.h"
#include "memory/mapping.h"

namespace rdma_migrate::dirty {

// Destroying it ends every protection and wakes every thread that waits for a page.
class Userfaultfd {
 public:
  enum class Faults {
    kNone,    // none is ever delivered (asynchronous write-protection): open to any user
    kAnyone,  // also those of system calls, which needs a privilege
  };

  // Throws Error("TRACKER_UNAVAILABLE") if the kernel has no userfaultfd, does not let this process use it
  // or lacks a feature (UFFD_FEATURE_*).
  Userfaultfd(Faults faults, uint64_t features);
  // The features of this kernel, or nothing if userfaultfd is not available.
  static std::optional<uint64_t> features(Faults faults);

  int fd() const { return fd_.get(); }
  // The features asked for.
  uint64_t granted() const { return granted_; }

  // Throws Error("TRACKER_UNAVAILABLE") for memory that the kernel cannot protect, such as a file on a disk.
  void add(const memory::Mapping& mapping);
  // Ends the watch of a mapping: its pages become writable and waiting threads go on. Does nothing for
  // one that was not added: older kernels would end the watch of another userfaultfd.
  void remove(const memory::Mapping& mapping) noexcept;

  // False with the system call's errno. Both are repeated for as long as the address space is changing.
  bool protect(uint64_t address, uint64_t length) const;
  bool unprotect(uint64_t address, uint64_t length) const;  // and wakes
  void wake(uint64_t address, uint64_t length) const noexcept;

 private:
  bool write_protect(uint64_t address, uint64_t length, bool on) const;

  UniqueFd fd_;
  uint64_t granted_;
  std::vector<uint64_t> added_;  // addresses
};

}  // namespace rdma_migrate::dirty
