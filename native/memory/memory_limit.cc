#include "memory/memory_limit.h"

#include <sys/sysinfo.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <iterator>

namespace rdma_migrate::memory {
namespace {

std::string own_cgroup() {
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("0::", 0) == 0) return line.substr(3);
  }
  return "";
}

void lower_to_cgroup(const std::string& folder, MemoryLimit* limit) {
  uint64_t memory = 0, swap = 0;
  // Without a swap limit the group may use all swap: then only RAM and swap together bound it.
  if (!read_number(folder + "/memory.max", &memory) || !read_number(folder + "/memory.swap.max", &swap))
    return;
  if (memory + swap < limit->bytes) *limit = {memory + swap, "memory.max and memory.swap.max of " + folder};
}

}  // namespace

MemoryLimit memory_limit() {
  MemoryLimit limit{UINT64_MAX, "RAM and swap"};
  struct sysinfo info {};
  if (sysinfo(&info) == 0) limit.bytes = (uint64_t{info.totalram} + info.totalswap) * info.mem_unit;
  for (const std::string& folder : cgroup_folders()) lower_to_cgroup(folder, &limit);
  return limit;
}

std::vector<std::string> cgroup_folders() { return cgroup_folders(own_cgroup()); }

std::vector<std::string> cgroup_folders(std::string group) {
  std::vector<std::string> folders;
  for (; group.size() > 1; group.erase(group.rfind('/'))) folders.push_back("/sys/fs/cgroup" + group);
  folders.push_back("/sys/fs/cgroup");
  return folders;
}

bool read_number(const std::string& path, uint64_t* number) {
  std::ifstream file(path);
  return static_cast<bool>(file >> *number);
}

std::string format_bytes(uint64_t bytes) {
  static constexpr std::array kUnits = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  std::string text = std::to_string(bytes) + " bytes";
  if (bytes < 1024) return text;
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  std::array<char, 32> scaled{};
  std::snprintf(scaled.data(), scaled.size(), " (%.1f %s)", value, kUnits[unit]);
  return text + scaled.data();
}

std::string huge_page_state(uint64_t huge_page_size) {
  const std::string kilobytes = std::to_string(huge_page_size / 1024);
  const std::string folder = "/sys/kernel/mm/hugepages/hugepages-" + kilobytes + "kB/";
  uint64_t free = 0, all = 0;
  if (!read_number(folder + "free_hugepages", &free) || !read_number(folder + "nr_hugepages", &all)) {
    return "this machine has no huge pages of " + kilobytes + " KiB (see /sys/kernel/mm/hugepages)";
  }
  return std::to_string(free) + " of " + std::to_string(all) + " huge pages of " + kilobytes +
         " KiB are free: raise " + folder + "nr_hugepages";
}

}  // namespace rdma_migrate::memory
