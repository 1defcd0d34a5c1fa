#include "verbs/locked_memory.h"

#include <sys/resource.h>
#include <sys/sysinfo.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <sstream>

#include "memory/memory_limit.h"

namespace rdma_migrate::verbs {
namespace {

using memory::format_bytes;

constexpr const char* kRaiseMemlock =
    "raise it with ulimit -l unlimited (LimitMEMLOCK=infinity in a systemd unit, memlock in "
    "/etc/security/limits.conf)";
constexpr uint64_t kCapIpcLock = uint64_t{1} << 14;  // linux/capability.h

// The value after "Name:" in /proc/self/status.
std::string status_field(const std::string& name) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(name + ":", 0) == 0) return line.substr(name.size() + 1);
  }
  return "";
}

uint64_t pinned_bytes() {
  uint64_t kilobytes = 0;
  std::istringstream(status_field("VmPin")) >> kilobytes;
  return kilobytes * 1024;
}

bool may_lock_any() {
  uint64_t capabilities = 0;
  std::istringstream(status_field("CapEff")) >> std::hex >> capabilities;
  return (capabilities & kCapIpcLock) != 0;
}

// Swap is no help here: a pinned page stays in RAM.
void find_memory(PinLimits& limits) {
  limits.memory = UINT64_MAX;
  limits.memory_source = "RAM";
  struct sysinfo info {};
  if (sysinfo(&info) == 0) limits.memory = uint64_t{info.totalram} * info.mem_unit;
  for (const std::string& folder : memory::cgroup_folders()) {
    const std::string path = folder + "/memory.max";
    uint64_t bytes = 0;
    if (memory::read_number(path, &bytes) && bytes < limits.memory) {
      limits.memory = bytes;
      limits.memory_source = path;
    }
  }
}

uint64_t memlock_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return UINT64_MAX;
  return limit.rlim_cur;
}

Error memlock_error(uint64_t length, const PinLimits& limits) {
  return Error("LOCKED_MEMORY_LIMIT", "registering " + format_bytes(length) + " for RDMA needs " +
                                          format_bytes(limits.pinned + length) +
                                          " of locked memory in all, and the limit is " +
                                          format_bytes(limits.memlock) + ": " + kRaiseMemlock);
}

bool over_memlock(uint64_t length, const PinLimits& limits) {
  return limits.memlock != UINT64_MAX && (length > limits.memlock || limits.pinned > limits.memlock - length);
}

}  // namespace

PinLimits pin_limits() {
  PinLimits limits;
  limits.pinned = pinned_bytes();
  limits.memlock = memlock_limit();
  limits.may_ignore = may_lock_any();
  find_memory(limits);
  return limits;
}

void check_can_pin(uint64_t length, const PinLimits& limits) {
  if (!limits.may_ignore && over_memlock(length, limits)) throw memlock_error(length, limits);
  if (length > limits.memory || limits.pinned > limits.memory - length) {
    throw Error("LOCKED_MEMORY_LIMIT", "registering " + format_bytes(length) + " for RDMA needs " +
                                           format_bytes(limits.pinned + length) +
                                           " of pinned memory in all, and the limit is " +
                                           format_bytes(limits.memory) + " (" + limits.memory_source +
                                           "): give this machine or its cgroup more memory, or migrate "
                                           "without pin-all, which registers what is used");
  }
}

Error pin_error(uint64_t address, uint64_t length, bool writable, int error_number) {
  const PinLimits limits = pin_limits();
  if (error_number == ENOMEM && over_memlock(length, limits)) return memlock_error(length, limits);
  const std::string what =
      "the RDMA device cannot register " + format_bytes(length) + " at " + std::to_string(address);
  switch (error_number) {
    case ENOMEM:
      return Error("REGISTER_FAILED", what + "; free memory, or migrate without pin-all", error_number);
    case EFAULT:
      return Error("REGISTER_FAILED",
                   what + ": a page cannot be pinned" +
                       (writable ? " for writing. Linux from 6.5 on pins no file of a disk's file system for "
                                   "writing: put the "
                                   "image on tmpfs or hugetlbfs (/dev/shm)"
                                 : ". Is the whole range mapped?"),
                   error_number);
    default:
      return Error("REGISTER_FAILED", what + "; see the kernel's log", error_number);
  }
}

}  // namespace rdma_migrate::verbs
