// The hot path: takes page bits from a bitmap, merges neighbouring pages and posts them as RDMA WRITEs, on a
// thread of its own. No copy, no allocation and no JavaScript per page; one short lock per WRITE (up to 2
// MiB). Jobs with `digests` are the exception: their pages are copied once, so that what is digested is what
// is sent.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "dirty/page_digests.h"
#include "engine/staging.h"
#include "engine/wire_time.h"
#include "fabric/fabric.h"
#include "memory/bitmap.h"

namespace rdma_migrate::engine {

// Neighbouring pages travel as one WRITE of at most this much (QEMU's RDMA_MERGE_MAX), a larger page as
// several.
inline constexpr uint64_t kMaxWriteBytes = 2 * 1024 * 1024;
// Bytes posted and not completed. A control message queues behind them, so this bounds its delay (and a
// cancel's); it is far above bandwidth times round trip of a 100 Gbit/s link (1.25 MB at 100 us), so the link
// never runs dry.
inline constexpr uint64_t kMaxOutstandingBytes = 16 * 1024 * 1024;

// The pages of one registered span whose bits are set.
struct WriteJob {
  uint64_t local_address = 0;   // of the span's first byte
  uint64_t remote_address = 0;  // of the same byte at the peer
  uint64_t length = 0;          // bytes, a multiple of the page size
  uint64_t page_size = 4096;
  uint32_t lkey = 0;
  uint32_t rkey = 0;
  std::shared_ptr<memory::Bitmap> bitmap;  // a bit is cleared before its page is read
  uint64_t first_page = 0;                 // the span's first bit
  std::shared_ptr<void> keep_alive;        // whatever owns the span's memory
  // Not null: pages travel by way of staging memory, and what is sent of each is noted here. Of the same page
  // size, and as many pages as the bitmap.
  std::shared_ptr<dirty::PageDigests> digests;
};

struct WriteResult {
  bool ok = false;  // false: cancelled, the connection ended, or `error`
  uint64_t pages = 0;
  uint64_t bytes = 0;
  uint64_t writes = 0;
  std::shared_ptr<const Error> error;  // staging memory cannot be had, pages cannot be read, or the
                                       // connection refused a WRITE
};

// Read by JavaScript while the writer runs: the order is that of lib/native/transport.ts.
struct WriterCounters {
  std::atomic<uint64_t> bytes_completed{0};
  std::atomic<uint64_t> pages_posted{0};
  std::atomic<uint64_t> writes_posted{0};
  std::atomic<uint64_t> stalls{0};   // times the writer waited for a completion
  std::atomic<uint64_t> wire_ns{0};  // time in which a WRITE was on its way
  std::atomic<uint64_t> held_ns{0};  // time in which none was because of the bandwidth limit
};
static_assert(sizeof(WriterCounters) == 6 * sizeof(uint64_t) && std::atomic<uint64_t>::is_always_lock_free);

class BulkWriter {
 public:
  using Done = std::function<void(const WriteResult&)>;

  // max_outstanding: work requests this writer may have on the send queue.
  explicit BulkWriter(uint32_t max_outstanding);
  ~BulkWriter();

  // Starts the thread. The connection must live until join() has returned.
  void start(fabric::Connection& connection);
  // Queues a job; jobs are written in order and without a pause between them. done is called once, from a
  // native thread, when the last WRITE of the job has completed locally (or the job failed).
  void submit(WriteJob job, Done done);
  // Bytes per second, 0 for no limit. Spread evenly, not in bursts.
  void set_max_bandwidth(uint64_t bytes_per_second) { max_bandwidth_ = bytes_per_second; }
  // Queued jobs fail at once, the running one at its next WRITE; what was posted completes. Final.
  void cancel();
  // After the connection has been closed: waits for the thread and lets go of every job's memory.
  void join();

  void completed(const fabric::Completion& completion);
  void connection_ended();

  std::shared_ptr<WriterCounters> counters() const { return counters_; }

 private:
  using Clock = std::chrono::steady_clock;
  struct Job {
    WriteJob work;
    Done done;
    WriteResult result;
  };
  struct Extent {
    uint64_t offset = 0;
    uint64_t length = 0;
  };
  // How far a job has come: `rest` was taken from the bitmap, `page` and what follows was not.
  struct Progress {
    uint64_t page = 0;
    Extent rest;
  };
  // A WRITE that was posted signaled: everything up to it is complete when it is.
  struct Mark {
    uint64_t sequence = 0;
    uint64_t bytes = 0;   // posted in all, up to and including this one
    uint64_t staged = 0;  // staging memory taken in all, likewise
  };

  void run();
  std::unique_ptr<Job> next_job();
  void transmit(std::unique_ptr<Job> job);
  std::optional<Extent> take_extent(const WriteJob& work, uint64_t& page) const;
  std::optional<Extent> take_write(const WriteJob& work, Progress& progress) const;
  // False: not posted. With `last` the job is handed over, and handed back if it was not posted.
  bool post(std::unique_ptr<Job>& job, const Extent& extent, bool last);
  static fabric::SendWorkRequest write_request(const WriteJob& work, const Extent& extent);
  bool prepare_staging(Job& job);
  // False: the pages cannot be read, which is then the job's error.
  bool stage(Job& job, const Extent& extent, uint64_t place, fabric::SendWorkRequest& request);
  bool is_signaled(uint64_t bytes);
  std::unique_ptr<Job> take_back(const fabric::SendWorkRequest& request);
  // staged: takes a place in staging memory too. Nothing: cancelled or ended.
  std::optional<uint64_t> wait_for_room(uint64_t bytes, bool staged);
  bool pace(uint64_t bytes);
  uint64_t extent_limit() const;
  void finish(std::unique_ptr<Job> job, bool ok);
  void fail_everything();

  const uint32_t max_outstanding_;
  std::shared_ptr<WriterCounters> counters_ = std::make_shared<WriterCounters>();
  std::atomic<uint64_t> max_bandwidth_{0};
  fabric::Connection* connection_ = nullptr;

  std::mutex mutex_;  // guards what follows
  std::condition_variable wake_;
  std::deque<std::unique_ptr<Job>> queue_;
  std::deque<std::pair<uint64_t, std::unique_ptr<Job>>>
      finishing_;  // posted to the end: sequence of the last WRITE
  std::deque<Mark> marks_;
  WireTime wire_time_{counters_->wire_ns, counters_->held_ns};
  uint64_t posted_ = 0, completed_ = 0;  // work requests
  uint64_t posted_bytes_ = 0, completed_bytes_ = 0;
  std::vector<std::shared_ptr<void>> retained_;
  std::unique_ptr<Staging> staging_;  // from the first job that needs it to join()
  bool cancelled_ = false, ended_ = false;

  uint64_t unsignaled_ = 0;        // writer thread only
  uint64_t unsignaled_bytes_ = 0;  // writer thread only
  Clock::time_point next_post_{};  // writer thread only
  std::thread thread_;
};

}  // namespace rdma_migrate::engine
