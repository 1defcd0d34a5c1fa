// A queue pair that carries WRITEs for a BulkWriter.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>

#include "engine/staging.h"
#include "engine/write_cursor.h"
#include "engine/write_job.h"
#include "fabric/fabric.h"

namespace rdma_migrate::engine {

// A job and how far it has come. The writer's lock guards it.
struct RunningJob {
  RunningJob(WriteJob given, std::function<void(const WriteResult&)> then)
      : work(std::move(given)), done(std::move(then)), cursor(work) {}
  RunningJob(const RunningJob&) = delete;

  WriteJob work;
  const std::function<void(const WriteResult&)> done;
  WriteResult result;
  WriteCursor cursor;
  size_t under_way = 0;    // batches
  bool exhausted = false;  // every WRITE has been taken
  bool over = false;       // done is being called, or has been
};

// WRITEs of one job that were posted at once. The last is signaled: with it all are complete.
struct Flight {
  std::shared_ptr<RunningJob> job;
  uint64_t last = 0;  // number of the last WRITE
  uint32_t count = 0;
  uint64_t bytes = 0;
  uint64_t staged = 0;  // staging memory that had been taken by then
};

struct WriteLane {
  WriteLane(fabric::Domain& of, fabric::QueuePair& by, uint32_t most)
      : domain(of), queue_pair(by), max_outstanding(most) {}

  fabric::Domain& domain;
  fabric::QueuePair& queue_pair;
  const uint32_t max_outstanding;  // WRITEs

  // The writer's lock guards what follows.
  std::deque<Flight> flights;  // oldest first
  uint64_t posted = 0;         // number of the newest WRITE
  uint32_t outstanding = 0;    // WRITEs
  uint64_t bytes = 0;          // that are outstanding
  bool held = false;           // waits for the bandwidth limit
  bool used = false;           // a WRITE has been taken for it

  // From the first job that needs it on. Used in the queue pair's events only.
  std::unique_ptr<Staging> staging;
};

}  // namespace rdma_migrate::engine
