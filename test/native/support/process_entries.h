// What this process holds, by its folders in /proc.
#pragma once

#include <dirent.h>

#include <cstddef>

namespace rdma_migrate::test {

inline size_t entries_of(const char* path) {
  size_t count = 0;
  DIR* const directory = opendir(path);
  while (readdir(directory) != nullptr) ++count;
  closedir(directory);
  return count;
}

// With two that are always there, and the one that counts.
inline size_t descriptors() { return entries_of("/proc/self/fd"); }
// A thread that has been joined may be listed for a moment more.
inline size_t threads() { return entries_of("/proc/self/task"); }

}  // namespace rdma_migrate::test
