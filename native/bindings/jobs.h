// Work on the pool for one JavaScript environment: what is under way keeps the environment alive, and nothing
// of it is left when the environment has ended.
#pragma once

#include <napi.h>

#include <memory>

#include "pool.h"

namespace rdma_migrate::bindings {

// Made, settled and destroyed on the JavaScript thread.
class Job {
 public:
  virtual ~Job() = default;
  // On a thread of the pool. Must not throw, and knows nothing of V8.
  virtual void execute() = 0;
  // Afterwards, on the JavaScript thread.
  virtual void settle(Napi::Env env) = 0;
};

// Takes the job. Throws Error: RESOURCE_LIMIT, and has not taken it then. In an environment that is ending it
// is not taken either.
void start_job(Napi::Env env, WorkLane lane, std::unique_ptr<Job>& job);

}  // namespace rdma_migrate::bindings
