#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <fstream>

#include "memory/memory_limit.h"
#include "memory_support.h"

using namespace memory_test;
using rdma_migrate::memory::format_bytes;
using rdma_migrate::memory::memory_limit;

namespace {

uint64_t open_files() {
  uint64_t count = 0;
  for (int fd = 0; fd < 1024; ++fd) count += fcntl(fd, F_GETFD) >= 0;
  return count;
}

bool exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

}  // namespace

TEST_CASE("a memfd is zero, shared, writable and sparse") {
  const auto mapping = Mapping::memfd("pc.ram", 64 * kMiB);
  CHECK(mapping->kind() == Mapping::Kind::kMemfd);
  CHECK(mapping->length() == 64 * kMiB);
  CHECK(mapping->page_size() == static_cast<uint64_t>(sysconf(_SC_PAGESIZE)));
  CHECK(mapping->name() == "memfd pc.ram");
  CHECK(mapping->writable());
  CHECK(allocated_bytes(*mapping) == 0);
  mapping->data()[5 * kMiB] = 7;
  uint8_t byte = 0;
  CHECK(pread(mapping->file().get(), &byte, 1, 5 * kMiB) == 1);
  CHECK(byte == 7);
}

TEST_CASE("a memfd cannot be truncated while it is mapped") {
  const auto mapping = Mapping::memfd("ram", kMiB);
  CHECK(ftruncate(mapping->file().get(), 0) != 0);
  CHECK(errno == EPERM);
}

TEST_CASE("lengths must be a whole number of pages, not zero and must not wrap") {
  TemporaryFolder folder;
  for (const uint64_t length :
       {uint64_t{0}, uint64_t{1}, kPage - 1, kPage + 1, UINT64_MAX, uint64_t{1} << 63}) {
    CAPTURE(length);
    CHECK(code_of([&] { Mapping::memfd("ram", length); }) == "INVALID_ARGUMENT");
    CHECK(code_of([&] { Mapping::file(folder.file("ram"), length, FileMode::kCreate); }) ==
          "INVALID_ARGUMENT");
    CHECK(code_of([&] { Mapping::caller(kPage, length); }) == "INVALID_ARGUMENT");
  }
  CHECK_FALSE(exists(folder.file("ram")));
}

TEST_CASE("a memfd larger than this machine names what is needed and what there is") {
  const uint64_t length = uint64_t{1} << 50;
  CHECK(code_of([&] { Mapping::memfd("ram", length); }) == "OUT_OF_MEMORY");
  const std::string message = message_of([&] { Mapping::memfd("ram", length); });
  CHECK(message.find("1125899906842624 bytes (1.0 PiB)") != std::string::npos);
  CHECK(message.find(format_bytes(memory_limit().bytes)) != std::string::npos);
}

TEST_CASE(
    "limits are looked for from this cgroup up to the root of the mount, which is the container's own") {
  using rdma_migrate::memory::cgroup_folders;
  const std::vector<std::string> root = {"/sys/fs/cgroup"};
  CHECK(cgroup_folders("") == root);
  CHECK(cgroup_folders("/") == root);
  CHECK(cgroup_folders("/a/b") ==
        std::vector<std::string>{"/sys/fs/cgroup/a/b", "/sys/fs/cgroup/a", "/sys/fs/cgroup"});
  CHECK(cgroup_folders().back() == root.front());
}

TEST_CASE("huge pages: bad sizes and missing pages are typed errors") {
  CHECK(code_of([] { Mapping::memfd("ram", kMiB, 3000); }) == "INVALID_ARGUMENT");
  CHECK(code_of([] { Mapping::memfd("ram", 512 * kMiB, 1024); }) == "INVALID_ARGUMENT");
  CHECK(code_of([] { Mapping::memfd("ram", uint64_t{1} << 40, uint64_t{1} << 40); }) == "OUT_OF_MEMORY");
  // More 2 MiB pages than any machine that runs this test has set aside.
  const std::string message = message_of([] { Mapping::memfd("ram", uint64_t{1} << 45, 2 * kMiB); });
  CHECK(message.find("35184372088832 bytes") != std::string::npos);
}

TEST_CASE("a created file is sparse, private to its owner and never overwritten") {
  TemporaryFolder folder;
  const std::string path = folder.file("ram");
  {
    const auto mapping = Mapping::file(path, 8 * kMiB, FileMode::kCreate);
    CHECK(mapping->kind() == Mapping::Kind::kFile);
    CHECK(allocated_bytes(*mapping) == 0);
    struct stat status {};
    fstat(mapping->file().get(), &status);
    CHECK(status.st_size == 8 * kMiB);
    CHECK((status.st_mode & 0777) == 0600);
    mapping->data()[kMiB] = 42;
    mapping->sync();
  }
  CHECK(code_of([&] { Mapping::file(path, 8 * kMiB, FileMode::kCreate); }) == "IO_ERROR");
  const auto again = Mapping::file(path, 8 * kMiB, FileMode::kRead);
  CHECK(again->data()[kMiB] == 42);
  CHECK_FALSE(again->writable());
  CHECK(code_of([&] { again->check_writable(0, 1, "test"); }) == "INVALID_ARGUMENT");
}

TEST_CASE("a file shorter than the block, missing, or no file is refused, and nothing stays open") {
  TemporaryFolder folder;
  std::ofstream(folder.file("short")) << std::string(kPage, 'x');
  REQUIRE(mkfifo(folder.file("fifo").c_str(), 0600) == 0);
  const uint64_t before = open_files();
  CHECK(code_of([&] { Mapping::file(folder.file("short"), 2 * kPage, FileMode::kWrite); }) ==
        "INVALID_ARGUMENT");
  CHECK(code_of([&] { Mapping::file(folder.file("none"), kPage, FileMode::kRead); }) == "IO_ERROR");
  CHECK(code_of([&] { Mapping::file(folder.file("fifo"), kPage, FileMode::kRead); }) == "INVALID_ARGUMENT");
  CHECK(code_of([&] { Mapping::file("/tmp", kPage, FileMode::kRead); }) == "INVALID_ARGUMENT");
  CHECK(code_of([&] { Mapping::file("", kPage, FileMode::kRead); }) == "INVALID_ARGUMENT");
  CHECK(code_of([&] { Mapping::file(std::string("a\0b", 3), kPage, FileMode::kRead); }) ==
        "INVALID_ARGUMENT");
  CHECK(open_files() == before);
  const std::string message =
      message_of([&] { Mapping::file(folder.file("short"), 2 * kPage, FileMode::kWrite); });
  CHECK(message.find(folder.file("short")) != std::string::npos);
  CHECK(message.find("4096") != std::string::npos);
  CHECK(message.find("8192") != std::string::npos);
}

TEST_CASE("a file that may not be opened is PERMISSION_DENIED") {
  TemporaryFolder folder;
  std::ofstream(folder.file("ram")) << std::string(kPage, 'x');
  chmod(folder.file("ram").c_str(), 0);
  if (geteuid() == 0) {
    CHECK(code_of([&] { Mapping::file("/proc/version", kPage, FileMode::kWrite); }) != "none");
    MESSAGE("running as root, whom modes do not stop: tried /proc/version instead");
    return;
  }
  CHECK(code_of([&] { Mapping::file(folder.file("ram"), kPage, FileMode::kRead); }) == "PERMISSION_DENIED");
}

TEST_CASE("a file above the file size limit is DISK_FULL and not SIGXFSZ") {
  TemporaryFolder folder;
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const struct rlimit limit = {kMiB, kMiB};
    setrlimit(RLIMIT_FSIZE, &limit);
    const bool refused =
        code_of([&] { Mapping::file(folder.file("ram"), 2 * kMiB, FileMode::kCreate); }) == "DISK_FULL";
    _exit(refused && !exists(folder.file("ram")) ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("a caller's range must be mapped from end to end, and stays mapped afterwards") {
  Anonymous memory(16 * kPage);
  memory.data()[3] = 9;
  {
    const auto mapping = Mapping::caller(memory.address(), 16 * kPage);
    CHECK(mapping->kind() == Mapping::Kind::kCaller);
    CHECK(mapping->data() == memory.data());
    CHECK(mapping->writable());
  }
  CHECK(memory.data()[3] == 9);
  mprotect(memory.data() + 8 * kPage, kPage, PROT_READ);
  CHECK_FALSE(Mapping::caller(memory.address(), 16 * kPage)->writable());
  munmap(memory.data() + 4 * kPage, kPage);
  CHECK(code_of([&] { Mapping::caller(memory.address(), 16 * kPage); }) == "INVALID_ARGUMENT");
  CHECK(Mapping::caller(memory.address(), 4 * kPage)->length() == 4 * kPage);
  CHECK(code_of([&] { Mapping::caller(memory.address() + 1, kPage); }) == "INVALID_ARGUMENT");
  CHECK(code_of([&] { Mapping::caller(0, kPage); }) == "INVALID_ARGUMENT");
  CHECK(code_of([&] { Mapping::caller(UINT64_MAX - kPage + 1, 2 * kPage); }) == "INVALID_ARGUMENT");
}

TEST_CASE("a file that does not back the caller's range is refused") {
  const auto file = Mapping::memfd("ram", 16 * kPage);
  const auto other = Mapping::memfd("other", 16 * kPage);
  CHECK(code_of([&] { Mapping::caller(file->address(), 16 * kPage, other->file().get()); }) ==
        "INVALID_ARGUMENT");
  CHECK(code_of([&] { Mapping::caller(file->address(), 16 * kPage, 1 << 20); }) == "INVALID_ARGUMENT");
  const auto part = Mapping::caller(file->address() + 4 * kPage, 4 * kPage, file->file().get());
  CHECK(part->fd_offset() == 4 * kPage);
  Anonymous memory(4 * kPage);
  CHECK(code_of([&] { Mapping::caller(memory.address(), 4 * kPage, file->file().get()); }) ==
        "INVALID_ARGUMENT");
}

TEST_CASE("ranges outside a mapping are refused, however large") {
  const auto mapping = Mapping::memfd("ram", 16 * kPage);
  CHECK(code_of([&] { mapping->check(0, 16 * kPage, "test"); }) == "none");
  CHECK(code_of([&] { mapping->check(16 * kPage, 0, "test"); }) == "none");
  CHECK(code_of([&] { mapping->check(1, 16 * kPage, "test"); }) == "INVALID_ARGUMENT");
  CHECK(code_of([&] { mapping->check(kPage, UINT64_MAX, "test"); }) == "INVALID_ARGUMENT");
  CHECK(code_of([&] { mapping->check(UINT64_MAX, 2, "test"); }) == "INVALID_ARGUMENT");
}

TEST_CASE("memory and files are given back with the last reference") {
  const uint64_t files = open_files();
  auto mapping = Mapping::memfd("ram", 4 * kMiB);
  uint8_t* address = mapping->data();
  mapping.reset();
  CHECK(open_files() == files);
  CHECK(msync(address, kPage, MS_ASYNC) != 0);
  CHECK(errno == ENOMEM);
}
