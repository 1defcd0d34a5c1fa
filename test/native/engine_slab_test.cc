// Memory that a device reads while the process may fork.
#include <doctest/doctest.h>

#include <cinttypes>
#include <cstdio>
#include <fstream>
#include <string>

#include "engine/slab.h"

using namespace rdma_migrate;

namespace {

// The VmFlags of the mapping that has the address, as proc(5) names them.
std::string flags_of(uint64_t address) {
  std::ifstream maps("/proc/self/smaps");
  bool found = false;
  for (std::string line; std::getline(maps, line);) {
    uint64_t begin = 0;
    uint64_t end = 0;
    if (std::sscanf(line.c_str(), "%" SCNx64 "-%" SCNx64 " ", &begin, &end) == 2)
      found = begin <= address && address < end;
    if (found && line.rfind("VmFlags:", 0) == 0) return line + " ";
  }
  return "";
}

}  // namespace

TEST_CASE("a child of the process has no part in the buffers that a device uses") {
  engine::Slab slab(1 << 20, "a test");
  slab.data()[0] = 1;
  const std::string flags = flags_of(slab.address());
  CAPTURE(flags);
  CHECK(flags.find(" dc ") != std::string::npos);  // do not copy on fork
}
