#include <doctest/doctest.h>
#include <sys/mman.h>

#include <cinttypes>
#include <cstdio>
#include <fstream>
#include <string>

#include "engine/slab.h"
#include "iwarp/rx_buffer.h"
#include "memory/core_dumps.h"
#include "memory/mapping.h"

namespace rdma_migrate::memory {
namespace {

constexpr size_t kSize = 64 * 4096;

// Whether the kernel leaves the page of that address out of core dumps.
bool is_left_out(const void* address) {
  const auto wanted = reinterpret_cast<uintptr_t>(address);
  std::ifstream smaps("/proc/self/smaps");
  bool here = false;
  for (std::string line; std::getline(smaps, line);) {
    uintptr_t start = 0;
    uintptr_t end = 0;
    if (std::sscanf(line.c_str(), "%" SCNxPTR "-%" SCNxPTR " ", &start, &end) == 2)
      here = start <= wanted && wanted < end;
    if (here && line.starts_with("VmFlags:")) return (line + " ").find(" dd ") != std::string::npos;
  }
  FAIL("no such mapping");
  return false;
}

struct Anonymous {
  void* data = mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ~Anonymous() { munmap(data, kSize); }
  uint64_t address() const { return reinterpret_cast<uint64_t>(data); }
};

TEST_CASE("RAM that is mapped here is in no core dump") {
  CHECK(is_left_out(Mapping::memfd("dumps", kSize)->data()));
}

TEST_CASE("a caller's range is left as it is unless that is asked for") {
  const Anonymous range;
  {
    const auto as_they_are = Mapping::caller(range.address(), kSize);
    CHECK_FALSE(is_left_out(range.data));
  }
  const auto left_out = Mapping::caller(range.address(), kSize, -1, Mapping::CoreDumps::kLeaveOut);
  CHECK(is_left_out(range.data));
}

TEST_CASE("buffers of messages and of pages on their way are in no core dump") {
  const engine::Slab slab(kSize, "a test");
  CHECK(is_left_out(slab.data()));
  iwarp::RxBuffer received;
  CHECK(is_left_out(received.room()));
  received.widen();
  CHECK(is_left_out(received.room()));
  PrivateBytes bytes(100);
  CHECK(is_left_out(bytes.data()));
  bytes.resize(kSize);
  CHECK(is_left_out(bytes.data() + kSize - 1));
}

}  // namespace
}  // namespace rdma_migrate::memory
