// How often what is random is tried.
#pragma once

namespace rdma_migrate::test {

// The thread sanitizer takes many times as long for each, and finds a race in the first ones.
constexpr int rounds(int count) {
#if defined(__SANITIZE_THREAD__)
  return (count + 3) / 4;
#else
  return count;
#endif
}

}  // namespace rdma_migrate::test
