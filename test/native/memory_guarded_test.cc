// Reads of memory that is not there: an error for the reader, which does not end the process.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "memory/guarded.h"
#include "support/cut_file.h"

using namespace rdma_migrate;
using namespace rdma_migrate::test;
using memory::guarded;

namespace {

// How a child ends that runs body; 256 and the signal, or its exit code.
template <typename Body>
int ending_of(Body&& body) {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    body();
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return WIFSIGNALED(status) ? 256 + WTERMSIG(status) : WEXITSTATUS(status);
}

uint8_t touch(const uint8_t* at) { return *reinterpret_cast<const volatile uint8_t*>(at); }

void default_action() { signal(SIGBUS, SIG_DFL); }

}  // namespace

TEST_CASE("a read of a file that was cut is left, and its place is known") {
  CutFile file(4);
  file.cut(2);
  std::vector<uint8_t> copy(4 * 4096);
  CHECK(guarded([&] { std::memcpy(copy.data(), file.data(), 2 * 4096); }));
  CHECK_FALSE(guarded([&] { std::memcpy(copy.data(), file.data(), 4 * 4096); }));
  CHECK(memory::fault_address() >= file.address() + 2 * 4096);
  CHECK(memory::fault_address() < file.address() + 4 * 4096);
  CHECK(memory::fault_error(memory::fault_address(), "read").code() == "IO_ERROR");
  // Once more: the signal does not stay blocked.
  CHECK_FALSE(guarded([&] { touch(file.data() + 3 * 4096); }));
}

TEST_CASE("threads that fault at the same time are left each by itself") {
  CutFile file(4);
  file.cut(0);
  std::vector<std::thread> threads;
  std::atomic<int> left{0};
  for (int count = 0; count < 4; ++count) {
    threads.emplace_back([&] {
      for (int round = 0; round < 500; ++round) left += guarded([&] { touch(file.data()); }) ? 0 : 1;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(left == 2000);
}

TEST_CASE("a SIGBUS that is not ours ends the process as without a guard") {
  CutFile file(4);
  file.cut(0);
  CHECK(ending_of([&] {
          default_action();
          guarded([] {});
          touch(file.data());
        }) == 256 + SIGBUS);
  CHECK(ending_of([&] {
          default_action();
          guarded([] { kill(getpid(), SIGBUS); });
        }) == 256 + SIGBUS);
}

TEST_CASE("a SIGBUS that is not ours goes to the handler that was there before") {
  CutFile file(4);
  file.cut(0);
  CHECK(ending_of([&] {
          signal(SIGBUS, [](int) { _exit(7); });
          guarded([] {});
          touch(file.data());
        }) == 7);
}
