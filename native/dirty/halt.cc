#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <fstream>
#include <sstream>
#include <thread>

#include "dirty/target_process.h"
#include "error.h"

namespace rdma_migrate::dirty {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kBetweenLooks = std::chrono::microseconds(50);

template <typename Done>
void wait_until(Clock::time_point deadline, pid_t pid, Done done) {
  while (!done()) {
    if (Clock::now() >= deadline) {
      throw Error("TIMEOUT", "process " + std::to_string(pid) +
                                 " did not stop in time, so that its writes cannot be read; it runs on");
    }
    std::this_thread::sleep_for(kBetweenLooks);
  }
}

std::string read_file(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

bool write_file(const std::string& path, const char* text) {
  const UniqueFd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  return fd && write(fd.get(), text, 1) == 1;
}

bool has_line(const std::string& text, const std::string& wanted) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line == wanted) return true;
  }
  return false;
}

}  // namespace

Halt::Halt(const TargetProcess& target, const std::string& cgroup, std::chrono::milliseconds deadline)
    : target_(target), cgroup_(cgroup) {
  const auto until = Clock::now() + deadline;
  try {
    cgroup_.empty() ? stop(until) : freeze(until);
  } catch (...) {
    end();
    throw;
  }
}

void Halt::stop(Clock::time_point deadline) {
  if (target_.stands()) return;
  ours_ = true;
  if (!target_.signal(SIGSTOP)) {
    throw Error("TRACKER_UNAVAILABLE",
                "cannot stop process " + std::to_string(target_.pid()) + " for a moment; has it ended?",
                errno);
  }
  wait_until(deadline, target_.pid(), [this] { return target_.stands(); });
}

void Halt::freeze(Clock::time_point deadline) {
  const std::string members = read_file(cgroup_ + "/cgroup.procs");
  if (!has_line(members, std::to_string(target_.pid())) || has_line(members, std::to_string(getpid()))) {
    throw Error("INVALID_ARGUMENT", cgroup_ + " is not the cgroup (v2) of process " +
                                        std::to_string(target_.pid()) + " without this one");
  }
  if (has_line(read_file(cgroup_ + "/cgroup.events"), "frozen 1")) return;
  ours_ = true;
  if (!write_file(cgroup_ + "/cgroup.freeze", "1")) {
    throw Error("TRACKER_UNAVAILABLE", "cannot freeze " + cgroup_, errno);
  }
  wait_until(deadline, target_.pid(),
             [this] { return has_line(read_file(cgroup_ + "/cgroup.events"), "frozen 1"); });
}

void Halt::end() noexcept {
  if (!ours_) return;
  ours_ = false;
  if (cgroup_.empty()) {
    target_.signal(SIGCONT);
  } else {
    write_file(cgroup_ + "/cgroup.freeze", "0");
  }
}

}  // namespace rdma_migrate::dirty
