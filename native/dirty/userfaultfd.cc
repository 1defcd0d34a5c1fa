#include "dirty/userfaultfd.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "dirty/kernel_abi.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

namespace rdma_migrate::dirty {
namespace {

UniqueFd open_userfaultfd(Userfaultfd::Faults faults) {
  const int flags = O_CLOEXEC | O_NONBLOCK;
  const int mode = faults == Userfaultfd::Faults::kNone ? UFFD_USER_MODE_ONLY : 0;
  UniqueFd fd(static_cast<int>(syscall(SYS_userfaultfd, flags | mode)));
  if (fd || errno != EPERM) return fd;
  // A process that may open the device gets all of userfaultfd (Linux 6.1).
  const UniqueFd device(open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
  if (device) return UniqueFd(ioctl(device.get(), USERFAULTFD_IOC_NEW, flags));
  errno = EPERM;
  return {};
}

// The handshake is possible once; it returns all features of the kernel.
bool agree(int fd, uint64_t features, uint64_t* known) {
  uffdio_api api = {};
  api.api = UFFD_API;
  api.features = features;
  if (ioctl(fd, UFFDIO_API, &api) != 0) return false;
  *known = api.features;
  return true;
}

Error unavailable(int sys_errno) {
  if (sys_errno == EPERM) {
    return Error(
        "TRACKER_UNAVAILABLE",
        "this process may not use userfaultfd for faults of system calls; run as root or with "
        "CAP_SYS_PTRACE, give access to /dev/userfaultfd, or sysctl -w vm.unprivileged_userfaultfd=1",
        sys_errno);
  }
  return Error(
      "TRACKER_UNAVAILABLE",
      "the kernel has no userfaultfd (CONFIG_USERFAULTFD), or a container's seccomp filter forbids it",
      sys_errno);
}

uffdio_range range_of(uint64_t address, uint64_t length) { return {address, length}; }

}  // namespace

Userfaultfd::Userfaultfd(Faults faults, uint64_t features)
    : fd_(open_userfaultfd(faults)), granted_(features) {
  if (!fd_) throw unavailable(errno);
  uint64_t known = 0;
  if (!agree(fd_.get(), features, &known)) {
    throw Error("TRACKER_UNAVAILABLE", "the kernel's userfaultfd lacks a feature that write-protection needs",
                errno);
  }
}

std::optional<uint64_t> Userfaultfd::features(Faults faults) {
  const UniqueFd fd = open_userfaultfd(faults);
  uint64_t known = 0;
  if (!fd || !agree(fd.get(), 0, &known)) return std::nullopt;
  return known;
}

void Userfaultfd::add(const memory::Mapping& mapping) {
  uffdio_register request = {};
  request.range = range_of(mapping.address(), mapping.length());
  request.mode = UFFDIO_REGISTER_MODE_WP;
  added_.reserve(added_.size() + 1);
  if (ioctl(fd_.get(), UFFDIO_REGISTER, &request) == 0) {
    added_.push_back(mapping.address());
    return;
  }
  const int cause = errno;
  const char* why = cause == EBUSY ? "another userfaultfd of this process watches it"
                                   : "only anonymous memory, memfd, tmpfs and hugetlbfs can be "
                                     "write-protected, mapped for writing";
  throw Error("TRACKER_UNAVAILABLE", "cannot write-protect " + mapping.name() + ": " + why, cause);
}

void Userfaultfd::remove(const memory::Mapping& mapping) noexcept {
  if (std::find(added_.begin(), added_.end(), mapping.address()) == added_.end()) return;
  uffdio_range range = range_of(mapping.address(), mapping.length());
  // What the caller has unmapped meanwhile is no longer watched either.
  ioctl(fd_.get(), UFFDIO_UNREGISTER, &range);
}

bool Userfaultfd::write_protect(uint64_t address, uint64_t length, bool on) const {
  uffdio_writeprotect request = {};
  request.range = range_of(address, length);
  request.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0;
  while (ioctl(fd_.get(), UFFDIO_WRITEPROTECT, &request) != 0) {
    if (errno != EAGAIN && errno != EINTR) return false;
  }
  return true;
}

bool Userfaultfd::protect(uint64_t address, uint64_t length) const {
  return write_protect(address, length, true);
}

bool Userfaultfd::unprotect(uint64_t address, uint64_t length) const {
  return write_protect(address, length, false);
}

void Userfaultfd::wake(uint64_t address, uint64_t length) const noexcept {
  uffdio_range range = range_of(address, length);
  ioctl(fd_.get(), UFFDIO_WAKE, &range);
}

}  // namespace rdma_migrate::dirty
