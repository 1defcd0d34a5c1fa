// Starts threads, and reports a limit of this machine as such.
#pragma once

#include <system_error>
#include <thread>
#include <utility>

#include "error.h"

namespace rdma_migrate {

inline Error thread_limit(int sys_errno) {
  return Error("RESOURCE_LIMIT",
               "the system gives this process no more threads: raise the limit of the user (ulimit -u), of "
               "the service (TasksMax) or of the container (pids.max of the cgroup)",
               sys_errno);
}

// Throws Error("RESOURCE_LIMIT").
template <typename Body>
std::thread start_thread(Body&& body) {
  try {
    return std::thread(std::forward<Body>(body));
  } catch (const std::system_error& error) {
    throw thread_limit(error.code().value());
  }
}

}  // namespace rdma_migrate
