// How much memory this machine can give, for errors that name it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace rdma_migrate::memory {

struct MemoryLimit {
  uint64_t bytes = 0;
  std::string source;  // "RAM and swap" or the cgroup that sets the limit
};

// The most that this process could ever use: RAM and swap, or less if a cgroup (v2, any level) limits it.
// UINT64_MAX if it is not known.
MemoryLimit memory_limit();

// The folders of this process's cgroup (v2) and of those above it, up to the root of the mount at
// /sys/fs/cgroup, which in a container has the container's limits.
std::vector<std::string> cgroup_folders();
// The same for a group as /proc/self/cgroup names it: "/user.slice/...", "/", or "" without one.
std::vector<std::string> cgroup_folders(std::string group);

// The first number in a file; false if there is none ("max", or no such file).
bool read_number(const std::string& path, uint64_t* number);

// "8589934592 bytes (8.0 GiB)"
std::string format_bytes(uint64_t bytes);

// "3 of 8 huge pages of 2048 KiB are free: raise ..." for errors about hugetlb memory.
std::string huge_page_state(uint64_t huge_page_size);

}  // namespace rdma_migrate::memory
