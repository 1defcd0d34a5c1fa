#include "dirty/target_process.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cinttypes>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <memory>
#include <sstream>

#include "error.h"

namespace rdma_migrate::dirty {
namespace {

constexpr size_t kTouchBatch = 512;

// The same on all architectures; older distributions' headers lack them.
constexpr long kPidfdSendSignal = 424;
constexpr long kPidfdOpen = 434;

std::string read_all(int fd) {
  std::string text;
  std::array<char, 16384> buffer;
  for (;;) {
    const ssize_t got = ::read(fd, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return text;
    text.append(buffer.data(), static_cast<size_t>(got));
  }
}

// The letter after the name, which may itself contain parentheses.
char state_of(const std::string& stat) {
  const size_t name_end = stat.rfind(')');
  return name_end == std::string::npos || name_end + 2 >= stat.size() ? 'X' : stat[name_end + 2];
}

}  // namespace

TargetProcess::TargetProcess(pid_t pid) : pid_(pid) {
  if (pid <= 0) throw Error("INVALID_ARGUMENT", "pid " + std::to_string(pid) + " is not a process");
  if (pid == getpid()) {
    throw Error("INVALID_ARGUMENT", "a process cannot stop itself to track its memory; use write-protect");
  }
  folder_ = UniqueFd(::open(("/proc/" + std::to_string(pid)).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder_) throw Error("TRACKER_UNAVAILABLE", "there is no process " + std::to_string(pid), errno);
  pidfd_ = UniqueFd(static_cast<int>(syscall(kPidfdOpen, pid, 0)));
  if (!pidfd_) {
    throw Error("TRACKER_UNAVAILABLE",
                "cannot get hold of process " + std::to_string(pid) + " (pidfd_open, Linux 5.3)", errno);
  }
  // Both stand for the same process if the folder's is still alive now that the other is open.
  read("stat");
}

UniqueFd TargetProcess::open(const std::string& name, int flags) const {
  UniqueFd fd(openat(folder_.get(), name.c_str(), flags | O_CLOEXEC));
  if (fd) return fd;
  const std::string what = "/proc/" + std::to_string(pid_) + "/" + name;
  if (errno == EACCES || errno == EPERM) {
    throw Error("TRACKER_UNAVAILABLE",
                "cannot open " + what + "; run as its user or as root, with CAP_SYS_PTRACE", errno);
  }
  throw Error("TRACKER_UNAVAILABLE", "cannot open " + what + "; has the process ended?", errno);
}

std::string TargetProcess::read(const std::string& name) const {
  std::string text = read_all(open(name, O_RDONLY).get());
  if (!text.empty()) return text;
  throw Error("TRACKER_UNAVAILABLE", "process " + std::to_string(pid_) + " has ended");
}

std::vector<TargetArea> TargetProcess::areas() const {
  std::istringstream lines(read("maps"));
  std::vector<TargetArea> areas;
  for (std::string line; std::getline(lines, line);) {
    TargetArea area;
    char permissions[5] = {};
    if (std::sscanf(line.c_str(), "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %*x:%*x %" SCNu64, &area.start,
                    &area.end, permissions, &area.file_offset, &area.inode) != 5) {
      continue;
    }
    area.shared = permissions[3] == 's';
    areas.push_back(area);
  }
  return areas;
}

bool TargetProcess::stands() const {
  UniqueFd owner = open("task", O_RDONLY | O_DIRECTORY);
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(fdopendir(owner.get()), closedir);
  if (!folder) throw Error("INTERNAL", "cannot list the threads of process " + std::to_string(pid_), errno);
  const int tasks = owner.release();  // now owned by the folder
  bool any = false;
  while (const dirent* entry = readdir(folder.get())) {
    if (entry->d_name[0] == '.') continue;
    const UniqueFd stat(openat(tasks, (std::string(entry->d_name) + "/stat").c_str(), O_RDONLY | O_CLOEXEC));
    if (!stat) continue;  // the thread has ended
    any = true;
    if (std::strchr("TtZXx", state_of(read_all(stat.get()))) == nullptr) return false;
  }
  return any;
}

void TargetProcess::touch(const std::vector<uint64_t>& addresses) const {
  std::array<uint8_t, kTouchBatch> bytes;
  std::array<iovec, kTouchBatch> remote;
  for (size_t at = 0; at < addresses.size();) {
    const size_t count = std::min(kTouchBatch, addresses.size() - at);
    for (size_t i = 0; i < count; ++i) remote[i] = {reinterpret_cast<void*>(addresses[at + i]), 1};
    const iovec local = {bytes.data(), count};
    const ssize_t got = process_vm_readv(pid_, &local, 1, remote.data(), count, 0);
    if (got < 0 && errno != EFAULT) return;
    // It ends before the first page that cannot be read.
    at += got < 0 ? 1 : std::max<size_t>(1, static_cast<size_t>(got));
  }
}

bool TargetProcess::signal(int number) const {
  return syscall(kPidfdSendSignal, pidfd_.get(), number, nullptr, 0) == 0;
}

}  // namespace rdma_migrate::dirty
