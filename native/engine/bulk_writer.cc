#include "engine/bulk_writer.h"

#include <algorithm>
#include <utility>

#include "engine/work_request_id.h"
#include "memory/guarded.h"

namespace rdma_migrate::engine {
namespace {

// Small enough that with many queue pairs each has more than one batch under way.
constexpr uint64_t kShortestBatch = 256 * 1024;
// Pages are digested whole, so they must not travel in parts.
static_assert(dirty::PageDigests::kMaxPageSize <= kMaxWriteBytes);

}  // namespace

BulkWriter::~BulkWriter() {
  cancel();
  join();
}

WriteLane& BulkWriter::add(fabric::Domain& domain, fabric::QueuePair& queue_pair, uint32_t max_outstanding) {
  std::lock_guard lock(mutex_);
  if (pace_.limited() && !alarm_) alarm_ = std::make_unique<Alarm>(queue_pair);
  lanes_.push_back(std::make_unique<WriteLane>(domain, queue_pair, std::max(max_outstanding, 1U)));
  if (!queue_.empty()) queue_pair.notify();
  return *lanes_.back();
}

bool BulkWriter::remove(WriteLane& lane) {
  std::lock_guard lock(mutex_);
  if (lane.used) return false;
  const auto found =
      std::find_if(lanes_.begin(), lanes_.end(), [&](const auto& one) { return one.get() == &lane; });
  if (found == lanes_.end()) return true;
  removed_.push_back(std::move(*found));
  lanes_.erase(found);
  std::erase(held_, &lane);
  // The turn may have been its own.
  for (const auto& other : lanes_) other->queue_pair.notify();
  return true;
}

void BulkWriter::submit(WriteJob work, Done done) {
  auto job = std::make_shared<RunningJob>(std::move(work), std::move(done));
  Jobs over;
  {
    std::lock_guard lock(mutex_);
    if (cancelled_) {
      end_job(job, false, over);
    } else {
      queue_.push_back(std::move(job));
      for (const auto& lane : lanes_) lane->queue_pair.notify();
    }
  }
  tell(over);
}

void BulkWriter::set_max_bandwidth(uint64_t bytes_per_second) {
  std::lock_guard lock(mutex_);
  if (bytes_per_second != 0 && !alarm_ && !lanes_.empty())
    alarm_ = std::make_unique<Alarm>(lanes_.front()->queue_pair);
  pace_.set_limit(bytes_per_second);
  for (WriteLane* lane : std::exchange(held_, {})) lane->held = false;
  for (const auto& lane : lanes_) lane->queue_pair.notify();
}

void BulkWriter::cancel() {
  Jobs over;
  {
    std::lock_guard lock(mutex_);
    cancelled_ = true;
    fail_all(false, over);
  }
  tell(over);
}

void BulkWriter::connection_ended() {
  Jobs over;
  {
    std::lock_guard lock(mutex_);
    cancelled_ = true;
    fail_all(true, over);
  }
  tell(over);
}

void BulkWriter::join() {
  connection_ended();
  std::lock_guard lock(mutex_);
  alarm_.reset();
  held_.clear();
  lanes_.clear();
  removed_.clear();
  retained_.clear();
}

void BulkWriter::on_send(WriteLane& lane, std::span<const fabric::Completion> completions) {
  Jobs over;
  {
    std::lock_guard lock(mutex_);
    bool ok = true;
    for (const fabric::Completion& completion : completions) {
      if (owner_of(completion.wr_id) != Owner::kBulkWriter) continue;
      ok = ok && completion.status == fabric::Status::kSuccess;
      const uint64_t number = value_of(completion.wr_id);
      while (ok && !lane.flights.empty() && lane.flights.front().last <= number) {
        const Flight flight = std::move(lane.flights.front());
        lane.flights.pop_front();
        retire(lane, flight, over);
      }
    }
    wire_time_.update(under_way_);
    if (!ok) {
      cancelled_ = true;
      fail_all(true, over);
    }
  }
  tell(over);
  pump(lane);
}

void BulkWriter::on_notify(WriteLane& lane) {
  if (my_turn(lane)) pump(lane);
}

// After the limit has held several back, the one that has waited longest is next. The first lane, which the
// alarm rings, gives the turns.
bool BulkWriter::my_turn(WriteLane& lane) {
  std::lock_guard lock(mutex_);
  if (held_.empty() || &lane != lanes_.front().get()) return !lane.held;
  if (pace_.must_wait(Pace::Clock::now())) {
    // WRITEs have gone since the alarm was set.
    alarm_->ring_by(pace_.next());
    return !lane.held;
  }
  WriteLane* const next = held_.front();
  held_.pop_front();
  next->held = false;
  if (next != &lane) next->queue_pair.notify();
  return !lane.held;
}

void BulkWriter::pump(WriteLane& lane) {
  Batch batch;
  while (prepare_staging(lane) && take_batch(lane, batch)) {
    const bool staged = batch.job->work.digests != nullptr;
    if (!staged || stage(lane, batch)) post(lane, batch);
    if (!staged) continue;
    // Copies take a processing thread's time: others have their turn after each batch.
    lane.queue_pair.notify();
    return;
  }
}

// A failure is that of the job and not of the connection: others may go on without a copy. False: nothing is
// to be sent.
bool BulkWriter::prepare_staging(WriteLane& lane) {
  for (;;) {
    SharedJob job;
    uint64_t bytes;
    {
      std::lock_guard lock(mutex_);
      if (cancelled_ || queue_.empty()) return false;
      if (!queue_.front()->work.digests || lane.staging) return true;
      job = queue_.front();
      bytes = std::max(share(), 4 * kMaxWriteBytes);  // lib/migration/pins/pinning.ts reserves as much
    }
    std::shared_ptr<const Error> failure;
    try {
      lane.staging = std::make_unique<Staging>(lane.domain, bytes);
      return true;
    } catch (const Error& error) {
      failure = std::make_shared<const Error>(error);
    }
    Jobs over;
    {
      std::lock_guard lock(mutex_);
      // Another lane may have failed as well, or a cancel have come: what is being told stays as it is.
      if (!job->over) job->result.error = std::move(failure);
      end_job(job, false, over);
    }
    tell(over);
  }
}

bool BulkWriter::take_batch(WriteLane& lane, Batch& batch) {
  Jobs over;
  batch.job.reset();
  {
    std::lock_guard lock(mutex_);
    while (!batch.job && !cancelled_ && !queue_.empty()) {
      const SharedJob job = queue_.front();
      if (job->cursor.at_end()) {
        queue_.pop_front();
        job->exhausted = true;
        if (job->under_way == 0) end_job(job, true, over);
        continue;
      }
      if (!may_post(lane, *job)) break;
      batch.job = job;
      const size_t room = lane.max_outstanding - lane.outstanding;
      const uint64_t limit = std::min(longest_batch(), pace_.longest_write());
      fill(batch, pace_.limited() ? 1 : std::min(room, kBatchWrites), limit);
      if (batch.count == 0) {
        // Somebody has cleared the bits that at_end() saw.
        batch.job.reset();
        continue;
      }
      record(lane, batch);
    }
  }
  tell(over);
  return batch.job != nullptr;
}

bool BulkWriter::may_post(WriteLane& lane, const RunningJob& job) {
  // Another lane's turn may have come with the job's first page: this one has no staging memory yet.
  if (job.work.digests && !lane.staging) {
    lane.queue_pair.notify();
    return false;
  }
  const bool room = lane.outstanding < lane.max_outstanding &&
                    (lane.bytes == 0 || lane.bytes + longest_batch() <= share()) &&
                    (!job.work.digests || lane.staging->has_room(kMaxWriteBytes));
  if (!room) {
    counters_->stalls.fetch_add(1, std::memory_order_relaxed);
    // It cannot take its turn: the next one does.
    if (!held_.empty()) alarm_->ring_by(pace_.next());
    return false;
  }
  if (!pace_.must_wait(Pace::Clock::now())) return true;
  if (!std::exchange(lane.held, true)) held_.push_back(&lane);
  alarm_->ring_by(pace_.next());
  return false;
}

uint64_t BulkWriter::longest_batch() const { return std::clamp(share() / 4, kShortestBatch, kMaxWriteBytes); }

void BulkWriter::fill(Batch& batch, size_t most, uint64_t limit) {
  batch.count = 0;
  batch.bytes = 0;
  RunningJob& job = *batch.job;
  while (batch.count < most) {
    const auto write = job.cursor.next(limit);
    if (!write || (batch.count > 0 && batch.bytes + write->length > longest_batch())) break;
    job.cursor.take(*write);
    batch.extents[batch.count] = *write;
    batch.requests[batch.count] = write_request(job.work, *write);
    batch.requests[batch.count].signaled = false;
    ++batch.count;
    batch.bytes += write->length;
  }
  if (batch.count > 0) batch.requests[batch.count - 1].signaled = true;
}

// Before it is posted: its completion may come at any time after that.
void BulkWriter::record(WriteLane& lane, Batch& batch) {
  RunningJob& job = *batch.job;
  lane.used = true;
  pace_.spend(batch.bytes, Pace::Clock::now(), wire_time_);
  for (size_t at = 0; at < batch.count; ++at) {
    batch.requests[at].wr_id = make_wr_id(Owner::kBulkWriter, ++lane.posted);
    job.result.pages += pages_ended(job.work, batch.extents[at]);
  }
  job.result.bytes += batch.bytes;
  job.result.writes += batch.count;
  job.under_way += 1;
  if (job.work.digests) batch.place = lane.staging->take(batch.bytes);
  const auto count = static_cast<uint32_t>(batch.count);
  lane.flights.push_back(
      {batch.job, lane.posted, count, batch.bytes, lane.staging ? lane.staging->taken() : 0});
  lane.outstanding += count;
  lane.bytes += batch.bytes;
  under_way_ += count;
  wire_time_.update(under_way_);
}

// The guest may write the page at any moment: only of a copy it is known what the peer gets. Noted is only
// what is sent: of a batch that cannot be read nothing is.
bool BulkWriter::stage(WriteLane& lane, Batch& batch) {
  const WriteJob& work = batch.job->work;
  uint8_t* const copies = lane.staging->at(batch.place);
  uint8_t* copy = copies;
  for (size_t at = 0; at < batch.count; copy += batch.extents[at].length, ++at) {
    const auto* from = reinterpret_cast<const uint8_t*>(work.local_address + batch.extents[at].offset);
    for (uint64_t page = 0; page < batch.extents[at].length; page += work.page_size) {
      if (copy_live(copy + page, from + page, work.page_size)) continue;
      const Error fault = memory::fault_error(memory::fault_address(), "read");
      take_back(lane, batch, std::make_shared<const Error>(fault));
      return false;
    }
    batch.requests[at].address = reinterpret_cast<uint64_t>(copy);
    batch.requests[at].lkey = lane.staging->lkey();
  }
  copy = copies;
  for (size_t at = 0; at < batch.count; copy += batch.extents[at].length, ++at) {
    const uint64_t first = batch.extents[at].offset / work.page_size;
    for (uint64_t page = 0; page * work.page_size < batch.extents[at].length; ++page)
      work.digests->note(first + page, copy + page * work.page_size, work.page_size);
  }
  return true;
}

void BulkWriter::post(WriteLane& lane, Batch& batch) {
  uint64_t pages = 0;
  for (size_t at = 0; at < batch.count; ++at) pages += pages_ended(batch.job->work, batch.extents[at]);
  size_t posted = 0;
  std::shared_ptr<const Error> why;
  try {
    posted = lane.queue_pair.post_send(batch.posting());
    if (posted == batch.count) {
      counters_->pages_posted.fetch_add(pages, std::memory_order_relaxed);
      counters_->writes_posted.fetch_add(batch.count, std::memory_order_relaxed);
      return;
    }
    why = std::make_shared<const Error>("INTERNAL", "a send queue has less room than was agreed on");
  } catch (const fabric::BadWorkRequest& error) {
    posted = error.posted();
    why = std::make_shared<const Error>(error);
  } catch (const Error& error) {
    // Of a queue pair that has ended, its end tells why.
    if (error.code() != "CONNECTION_CLOSED") why = std::make_shared<const Error>(error);
  }
  if (posted == 0) return take_back(lane, batch, std::move(why));
  break_off(batch, std::move(why));
}

// The newest batch of this lane, which was not posted: its job fails, and others go on as if it had never
// been.
void BulkWriter::take_back(WriteLane& lane, const Batch& batch, std::shared_ptr<const Error> why) {
  Jobs over;
  {
    std::lock_guard lock(mutex_);
    if (!lane.flights.empty() && lane.flights.back().last == lane.posted) {
      const Flight& flight = lane.flights.back();
      lane.posted -= flight.count;
      lane.outstanding -= flight.count;
      lane.bytes -= flight.bytes;
      under_way_ -= flight.count;
      lane.flights.pop_back();
    }
    if (batch.job->work.digests) lane.staging->give_back(batch.place);
    wire_time_.update(under_way_);
    if (!batch.job->over) batch.job->result.error = std::move(why);
    end_job(batch.job, false, over);
  }
  tell(over);
}

// Some WRITEs of the batch are under way and none of them is signaled: when they have left their memory, and
// their places in the send queue, is not known before the queue pairs have ended.
void BulkWriter::break_off(const Batch& batch, std::shared_ptr<const Error> why) {
  Jobs over;
  {
    std::lock_guard lock(mutex_);
    cancelled_ = true;
    if (!batch.job->over) batch.job->result.error = std::move(why);
    fail_all(true, over);
  }
  tell(over);
}

void BulkWriter::retire(WriteLane& lane, const Flight& flight, Jobs& over) {
  lane.outstanding -= flight.count;
  lane.bytes -= flight.bytes;
  under_way_ -= flight.count;
  if (lane.staging) lane.staging->release(flight.staged);
  completed_bytes_ += flight.bytes;
  counters_->bytes_completed.store(completed_bytes_, std::memory_order_relaxed);
  RunningJob& job = *flight.job;
  job.under_way -= 1;
  // What was posted last may be all there was: nobody has looked since.
  if (!job.exhausted && !queue_.empty() && queue_.front() == flight.job && job.cursor.at_end()) {
    job.exhausted = true;
    queue_.pop_front();
  }
  if (job.exhausted && job.under_way == 0) end_job(flight.job, true, over);
}

void BulkWriter::end_job(const SharedJob& job, bool ok, Jobs& over) {
  if (std::exchange(job->over, true)) return;
  std::erase(queue_, job);
  job->result.ok = ok;
  // Some WRITEs of a failed one may still be under way: its memory is let go when the queue pairs have ended.
  if (!ok) retained_.push_back(std::move(job->work.keep_alive));
  over.push_back(job);
}

void BulkWriter::fail_all(bool those_under_way, Jobs& over) {
  while (!queue_.empty()) {
    const SharedJob job = queue_.front();
    if (!those_under_way && job->under_way > 0 && job->cursor.at_end()) {
      job->exhausted = true;
      queue_.pop_front();
    } else {
      end_job(job, false, over);
    }
  }
  if (!those_under_way) return;
  for (const auto& lane : lanes_) {
    for (const Flight& flight : lane->flights) end_job(flight.job, false, over);
  }
}

void BulkWriter::tell(const Jobs& over) {
  for (const SharedJob& job : over) {
    job->done(job->result);
    job->work.keep_alive.reset();
  }
}

}  // namespace rdma_migrate::engine
