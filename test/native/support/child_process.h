// A test case of this executable as a process of its own. A fork without exec() would do only in a process
// that has never had a second thread: a lock that another one holds at that moment stays locked in the child
// for ever, and what providers leave to be destroyed later is done by threads.
#pragma once

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace rdma_migrate::test {

class ChildProcess {
 public:
  // Starts a case that is skipped otherwise; the environment is this process's, with what is given here
  // instead.
  ChildProcess(const std::string& test_case, const std::map<std::string, std::string>& environment) {
    std::vector<std::string> variables;
    for (char** each = environ; *each != nullptr; ++each) {
      const std::string variable = *each;
      if (!environment.contains(variable.substr(0, variable.find('=')))) variables.push_back(variable);
    }
    for (const auto& [name, value] : environment) variables.push_back(name + "=" + value);
    std::vector<std::string> arguments{"/proc/self/exe", "--no-skip", "--test-case=" + test_case};
    const int failure = posix_spawn(&pid_, "/proc/self/exe", nullptr, nullptr, pointers(arguments).data(),
                                    pointers(variables).data());
    if (failure != 0) throw std::runtime_error("posix_spawn: " + std::to_string(failure));
  }
  ~ChildProcess() { end(); }
  ChildProcess(const ChildProcess&) = delete;

  void signal(int number) { kill(pid_, number); }
  // SIGKILL. Returns when it is gone.
  void end() {
    if (pid_ == 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

 private:
  static std::vector<char*> pointers(std::vector<std::string>& strings) {
    std::vector<char*> result;
    for (std::string& each : strings) result.push_back(each.data());
    result.push_back(nullptr);
    return result;
  }

  pid_t pid_ = 0;
};

}  // namespace rdma_migrate::test
