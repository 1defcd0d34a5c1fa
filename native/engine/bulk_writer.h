// The hot path: takes page bits from a bitmap, merges neighbouring pages and posts them as RDMA WRITEs, on as
// many queue pairs as there are. It has no thread of its own: each queue pair's events (a completion, a
// notify) fill its send queue again, on the provider's processing thread. No copy, no allocation and no
// JavaScript per page; one short lock per batch of WRITEs. Jobs with `digests` are the exception: their pages
// are copied once, so that what is digested is what is sent.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "engine/alarm.h"
#include "engine/pace.h"
#include "engine/wire_time.h"
#include "engine/write_job.h"
#include "engine/write_lane.h"
#include "fabric/fabric.h"

namespace rdma_migrate::engine {

class BulkWriter {
 public:
  using Done = std::function<void(const WriteResult&)>;

  BulkWriter() = default;
  ~BulkWriter();
  BulkWriter(const BulkWriter&) = delete;

  // A queue pair that carries WRITEs from now on, max_outstanding of them at one time. It must live until
  // join(). The first one also wakes the writer when a bandwidth limit has held it back.
  WriteLane& add(fabric::Domain& domain, fabric::QueuePair& queue_pair, uint32_t max_outstanding);
  // Its queue pair has ended: the others go on without it. False, and nothing is done, when it was given a
  // WRITE. Not for the first lane.
  bool remove(WriteLane& lane);
  // Queues a job; jobs are written in order and without a pause between them. done is called once, from a
  // native thread or from this call, when the last WRITE of the job has completed locally (or the job
  // failed).
  void submit(WriteJob job, Done done);
  // Bytes per second over all queue pairs, 0 for no limit. Spread evenly, not in bursts. Throws Error:
  // RESOURCE_LIMIT.
  void set_max_bandwidth(uint64_t bytes_per_second);
  // Jobs that have not been posted to their end fail at once; what was posted completes. Final.
  void cancel();
  // The connection has ended: every job fails. Final.
  void connection_ended();
  // After the queue pairs have been closed: lets go of every job's memory.
  void join();

  // Events of a lane's queue pair. Completions of others are passed over.
  void on_send(WriteLane& lane, std::span<const fabric::Completion> completions);
  void on_notify(WriteLane& lane);

  std::shared_ptr<WriterCounters> counters() const { return counters_; }

 private:
  using SharedJob = std::shared_ptr<RunningJob>;
  using Jobs = std::vector<SharedJob>;
  // A completion costs an event: one for every 16 small WRITEs or 2 MiB keeps the queue moving.
  static constexpr size_t kBatchWrites = 16;
  struct Batch {
    SharedJob job;
    std::array<fabric::SendWorkRequest, kBatchWrites> requests;
    std::array<Extent, kBatchWrites> extents;
    size_t count = 0;
    uint64_t bytes = 0;
    uint64_t place = 0;  // in staging memory
    std::span<const fabric::SendWorkRequest> posting() const { return {requests.data(), count}; }
  };

  void pump(WriteLane& lane);
  bool my_turn(WriteLane& lane);
  bool prepare_staging(WriteLane& lane);
  // False: there is nothing to post now.
  bool take_batch(WriteLane& lane, Batch& batch);
  bool may_post(WriteLane& lane, const RunningJob& job);
  void fill(Batch& batch, size_t most, uint64_t limit);
  void record(WriteLane& lane, Batch& batch);
  bool stage(WriteLane& lane, Batch& batch);
  void post(WriteLane& lane, Batch& batch);
  void take_back(WriteLane& lane, const Batch& batch, std::shared_ptr<const Error> why);
  void break_off(const Batch& batch, std::shared_ptr<const Error> why);
  void retire(WriteLane& lane, const Flight& flight, Jobs& over);
  uint64_t share() const { return kMaxOutstandingBytes / std::max<size_t>(lanes_.size(), 1); }
  uint64_t longest_batch() const;
  void end_job(const SharedJob& job, bool ok, Jobs& over);
  void fail_all(bool those_under_way, Jobs& over);
  static void tell(const Jobs& over);

  const std::shared_ptr<WriterCounters> counters_ = std::make_shared<WriterCounters>();

  std::mutex mutex_;  // guards what follows; never held while an owner is told
  std::vector<std::unique_ptr<WriteLane>> lanes_;
  std::vector<std::unique_ptr<WriteLane>> removed_;
  std::deque<SharedJob> queue_;   // the first is being written
  std::deque<WriteLane*> held_;   // by the bandwidth limit, in the order of their turn
  std::unique_ptr<Alarm> alarm_;  // from the first limit to join()
  Pace pace_;
  WireTime wire_time_{counters_->wire_ns, counters_->held_ns};
  uint64_t under_way_ = 0;  // WRITEs
  uint64_t completed_bytes_ = 0;
  std::vector<std::shared_ptr<void>> retained_;  // memory of failed jobs, which WRITEs may still read
  bool cancelled_ = false;                       // or ended
};

}  // namespace rdma_migrate::engine
