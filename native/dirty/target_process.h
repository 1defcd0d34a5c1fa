// Another process whose memory is tracked. All but touch() uses file descriptors that stand for this very
// process: if its pid is reused, that is noticed as the end of the tracked one.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "fd.h"

namespace rdma_migrate::dirty {

struct TargetArea {
  uint64_t start = 0;
  uint64_t end = 0;
  bool shared = false;
  uint64_t file_offset = 0;
  uint64_t inode = 0;
};

class TargetProcess {
 public:
  // Throws Error: INVALID_ARGUMENT (this process), TRACKER_UNAVAILABLE (no such process).
  explicit TargetProcess(pid_t pid);

  pid_t pid() const { return pid_; }
  // A file in its /proc folder. Throws Error: TRACKER_UNAVAILABLE (it has ended; no permission).
  UniqueFd open(const std::string& name, int flags) const;
  std::string read(const std::string& name) const;
  std::vector<TargetArea> areas() const;
  // Whether none of its threads runs.
  bool stands() const;
  // Makes pages present in its page tables by reading one byte of each; changes nothing. Pages that
  // cannot be read are left out. Uses the pid, which is another process's only if this one has ended:
  // then bytes of that one are read and discarded.
  void touch(const std::vector<uint64_t>& addresses) const;
  // False: it has ended.
  bool signal(int number) const;

 private:
  pid_t pid_;
  UniqueFd folder_;
  UniqueFd pidfd_;
};

// Stops every thread of a process for its lifetime: with SIGSTOP, or with the freezer of its cgroup. A
// process that was already stopped is left so.
class Halt {
 public:
  // cgroup: the process's folder in the cgroup v2 file system, or "" for SIGSTOP. Throws Error: TIMEOUT (a
  // thread did not stop; the process runs on), TRACKER_UNAVAILABLE, INVALID_ARGUMENT (this process is in that
  // cgroup too, or the other is not).
  Halt(const TargetProcess& target, const std::string& cgroup, std::chrono::milliseconds deadline);
  ~Halt() { end(); }
  Halt(const Halt&) = delete;
  Halt& operator=(const Halt&) = delete;

  void end() noexcept;

 private:
  void freeze(std::chrono::steady_clock::time_point deadline);
  void stop(std::chrono::steady_clock::time_point deadline);

  const TargetProcess& target_;
  const std::string cgroup_;
  bool ours_ = false;
};

}  // namespace rdma_migrate::dirty
