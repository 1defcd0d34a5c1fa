#include "engine/bulk_writer.h"

#include <algorithm>
#include <utility>

#include "engine/work_request_id.h"
#include "memory/guarded.h"
#include "thread.h"

namespace rdma_migrate::engine {
namespace {

// A completion costs an event; one for every 16 small WRITEs or 2 MiB keeps the queue moving without one for
// each.
constexpr uint64_t kSignalEveryWrites = 16;
constexpr uint64_t kSignalEveryBytes = kMaxWriteBytes;
// With a bandwidth limit WRITEs shrink to what the limit allows in 10 ms, so that the rate is even.
constexpr uint64_t kPaceSlicesPerSecond = 100;
constexpr uint64_t kMinPacedWrite = 16 * 1024;
// Pages are digested whole, so they must not travel in parts.
static_assert(dirty::PageDigests::kMaxPageSize <= kMaxWriteBytes);

}  // namespace

BulkWriter::BulkWriter(uint32_t max_outstanding) : max_outstanding_(std::max(max_outstanding, 1u)) {}

BulkWriter::~BulkWriter() {
  cancel();
  join();
}

void BulkWriter::start(fabric::Connection& connection) {
  connection_ = &connection;
  thread_ = start_thread([this] { run(); });
}

void BulkWriter::submit(WriteJob work, Done done) {
  auto job = std::make_unique<Job>(Job{std::move(work), std::move(done), {}});
  {
    std::lock_guard lock(mutex_);
    if (!cancelled_ && !ended_) {
      queue_.push_back(std::move(job));
      wake_.notify_all();
      return;
    }
  }
  finish(std::move(job), false);
}

void BulkWriter::cancel() {
  std::deque<std::unique_ptr<Job>> queued;
  {
    std::lock_guard lock(mutex_);
    cancelled_ = true;
    queued.swap(queue_);
  }
  wake_.notify_all();
  for (auto& job : queued) finish(std::move(job), false);
}

void BulkWriter::join() {
  if (thread_.joinable()) thread_.join();
  fail_everything();
  std::lock_guard lock(mutex_);
  retained_.clear();
  staging_.reset();
}

void BulkWriter::run() {
  while (auto job = next_job()) transmit(std::move(job));
}

std::unique_ptr<BulkWriter::Job> BulkWriter::next_job() {
  std::unique_lock lock(mutex_);
  wake_.wait(lock, [this] { return cancelled_ || ended_ || !queue_.empty(); });
  if (cancelled_ || ended_) return nullptr;
  auto job = std::move(queue_.front());
  queue_.pop_front();
  return job;
}

// Posts each WRITE one step late, so that the last one is known when it is posted and carries the
// completion.
void BulkWriter::transmit(std::unique_ptr<Job> job) {
  if (job->work.digests && !prepare_staging(*job)) return finish(std::move(job), false);
  Progress progress{job->work.first_page, {}};
  auto held = take_write(job->work, progress);
  if (!held) return finish(std::move(job), true);
  bool ok = true;
  while (auto following = take_write(job->work, progress)) {
    ok = post(job, *held, false);
    if (!ok) break;
    held = following;
  }
  if (ok) ok = post(job, *held, true);
  if (!ok && job) finish(std::move(job), false);
}

std::optional<BulkWriter::Extent> BulkWriter::take_extent(const WriteJob& work, uint64_t& page) const {
  const uint64_t end = work.first_page + work.length / work.page_size;
  const uint64_t first = work.bitmap->next_set(page, end);
  if (first >= end) return std::nullopt;
  const uint64_t limit = std::min(end, first + std::max<uint64_t>(1, extent_limit() / work.page_size));
  const uint64_t stop = work.bitmap->next_clear(first, limit);
  work.bitmap->clear_range(first, stop - first);
  page = stop;
  return Extent{(first - work.first_page) * work.page_size, (stop - first) * work.page_size};
}

std::optional<BulkWriter::Extent> BulkWriter::take_write(const WriteJob& work, Progress& progress) const {
  Extent& rest = progress.rest;
  if (rest.length == 0) {
    const auto taken = take_extent(work, progress.page);
    if (!taken) return std::nullopt;
    rest = *taken;
  }
  const Extent write{rest.offset, std::min(rest.length, kMaxWriteBytes)};
  rest = {rest.offset + write.length, rest.length - write.length};
  return write;
}

uint64_t BulkWriter::extent_limit() const {
  const uint64_t rate = max_bandwidth_;
  return rate == 0 ? kMaxWriteBytes : std::clamp(rate / kPaceSlicesPerSecond, kMinPacedWrite, kMaxWriteBytes);
}

bool BulkWriter::post(std::unique_ptr<Job>& job, const Extent& extent, bool last) {
  const bool staged = job->work.digests != nullptr;
  if (!pace(extent.length)) return false;
  const auto place = wait_for_room(extent.length, staged);
  if (!place) return false;
  fabric::SendWorkRequest request = write_request(job->work, extent);
  if (staged && !stage(*job, extent, *place, request)) return false;
  // A page that travels in parts counts with its last one.
  const uint64_t page_size = job->work.page_size;
  const uint64_t pages = (extent.offset + extent.length) / page_size - extent.offset / page_size;
  job->result.pages += pages;
  job->result.bytes += extent.length;
  job->result.writes += 1;
  counters_->pages_posted.fetch_add(pages, std::memory_order_relaxed);
  counters_->writes_posted.fetch_add(1, std::memory_order_relaxed);

  request.signaled = is_signaled(extent.length) || last;
  uint64_t sequence;
  {
    std::lock_guard lock(mutex_);
    sequence = ++posted_;
    posted_bytes_ += extent.length;
    wire_time_.update(posted_ - completed_);
    if (request.signaled) marks_.push_back({sequence, posted_bytes_, staging_ ? staging_->taken() : 0});
    // Handed over before it is posted: its completion may come before post_send() returns.
    if (last) finishing_.emplace_back(sequence, std::move(job));
  }
  request.wr_id = make_wr_id(Owner::kBulkWriter, sequence);
  std::shared_ptr<const Error> refusal;
  try {
    if (connection_->post_send(request)) return true;
  } catch (const Error& error) {
    // Of a connection that has ended, its end tells why.
    if (error.code() != "CONNECTION_CLOSED") refusal = std::make_shared<const Error>(error);
  }
  auto taken_back = take_back(request);
  if (last) job = std::move(taken_back);
  if (job) job->result.error = std::move(refusal);
  return false;
}

// A failure is that of the job and not of the connection: others may go on without a copy.
bool BulkWriter::prepare_staging(Job& job) {
  if (staging_) return true;  // set by this thread
  try {
    auto staging = std::make_unique<Staging>(*connection_);
    std::lock_guard lock(mutex_);
    staging_ = std::move(staging);
    return true;
  } catch (const Error& error) {
    job.result.error = std::make_shared<const Error>(error);
    return false;
  }
}

// The guest may write the page at any moment: only of a copy it is known what the peer gets.
bool BulkWriter::stage(Job& job, const Extent& extent, uint64_t place, fabric::SendWorkRequest& request) {
  const WriteJob& work = job.work;
  uint8_t* copy = staging_->at(place);
  const auto* from = reinterpret_cast<const uint8_t*>(work.local_address + extent.offset);
  for (uint64_t at = 0; at < extent.length; at += work.page_size) {
    if (copy_live(copy + at, from + at, work.page_size)) continue;
    job.result.error = std::make_shared<const Error>(memory::fault_error(memory::fault_address(), "read"));
    std::lock_guard lock(mutex_);
    staging_->give_back(place);
    return false;
  }
  // Only what is sent: of an extent that cannot be read nothing is.
  for (uint64_t at = 0; at < extent.length; at += work.page_size)
    work.digests->note(work.first_page + (extent.offset + at) / work.page_size, copy + at, work.page_size);
  request.address = reinterpret_cast<uint64_t>(copy);
  request.lkey = staging_->lkey();
  return true;
}

fabric::SendWorkRequest BulkWriter::write_request(const WriteJob& work, const Extent& extent) {
  fabric::SendWorkRequest request;
  request.opcode = fabric::Opcode::kRdmaWrite;
  request.address = work.local_address + extent.offset;
  request.length = static_cast<uint32_t>(extent.length);
  request.lkey = work.lkey;
  request.remote_address = work.remote_address + extent.offset;
  request.rkey = work.rkey;
  return request;
}

bool BulkWriter::is_signaled(uint64_t bytes) {
  unsignaled_ += 1;
  unsignaled_bytes_ += bytes;
  const uint64_t every = std::min<uint64_t>(kSignalEveryWrites, max_outstanding_);
  // With a limit each tells its end, or the pauses between them would look like time on the wire.
  if (max_bandwidth_ == 0 && unsignaled_ < every && unsignaled_bytes_ < kSignalEveryBytes) return false;
  unsignaled_ = unsignaled_bytes_ = 0;
  return true;
}

// The newest request, which the connection did not take: other jobs go on as if it had never been. Its job if
// it was handed over with it, unless connection_ended() was quicker.
std::unique_ptr<BulkWriter::Job> BulkWriter::take_back(const fabric::SendWorkRequest& request) {
  std::lock_guard lock(mutex_);
  const uint64_t sequence = posted_--;
  posted_bytes_ -= request.length;
  wire_time_.update(posted_ - completed_);
  if (!marks_.empty() && marks_.back().sequence == sequence) marks_.pop_back();
  // The next one is signaled, for those before it that this one would have spoken for.
  unsignaled_ = kSignalEveryWrites;
  if (finishing_.empty() || finishing_.back().first != sequence) return nullptr;
  auto job = std::move(finishing_.back().second);
  finishing_.pop_back();
  return job;
}

std::optional<uint64_t> BulkWriter::wait_for_room(uint64_t bytes, bool staged) {
  std::unique_lock lock(mutex_);
  const auto ready = [&] {
    return cancelled_ || ended_ ||
           (posted_ - completed_ < max_outstanding_ &&
            (posted_bytes_ == completed_bytes_ ||
             posted_bytes_ - completed_bytes_ + bytes <= kMaxOutstandingBytes) &&
            (!staged || staging_->has_room(bytes)));
  };
  if (!ready()) {
    counters_->stalls.fetch_add(1, std::memory_order_relaxed);
    wake_.wait(lock, ready);
  }
  if (cancelled_ || ended_) return std::nullopt;
  return staged ? staging_->take(bytes) : 0;
}

bool BulkWriter::pace(uint64_t bytes) {
  const uint64_t rate = max_bandwidth_;
  if (rate == 0) return true;
  const auto now = Clock::now();
  std::unique_lock lock(mutex_);
  if (next_post_ > now) {
    wake_.wait_until(lock, next_post_, [this] { return cancelled_ || ended_; });
    wire_time_.held(now);
  }
  const auto slice = std::chrono::nanoseconds(
      static_cast<int64_t>(1e9 * static_cast<double>(bytes) / static_cast<double>(rate)));
  next_post_ = std::max(next_post_, now) + slice;
  return !cancelled_ && !ended_;
}

void BulkWriter::completed(const fabric::Completion& completion) {
  const uint64_t sequence = value_of(completion.wr_id);
  const bool ok = completion.status == fabric::Status::kSuccess;
  std::deque<std::unique_ptr<Job>> done;
  {
    std::lock_guard lock(mutex_);
    completed_ = std::max(completed_, sequence);
    wire_time_.update(posted_ - completed_);
    while (!marks_.empty() && marks_.front().sequence <= sequence) {
      completed_bytes_ = marks_.front().bytes;
      if (staging_) staging_->release(marks_.front().staged);
      marks_.pop_front();
    }
    if (!ok) cancelled_ = true;
    while (!finishing_.empty() && finishing_.front().first <= sequence) {
      done.push_back(std::move(finishing_.front().second));
      finishing_.pop_front();
    }
    if (ok) counters_->bytes_completed.store(completed_bytes_, std::memory_order_relaxed);
  }
  wake_.notify_all();
  for (auto& job : done) finish(std::move(job), ok);
}

void BulkWriter::connection_ended() {
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
  }
  wake_.notify_all();
  fail_everything();
}

void BulkWriter::fail_everything() {
  std::deque<std::unique_ptr<Job>> failed;
  {
    std::lock_guard lock(mutex_);
    for (auto& entry : finishing_) failed.push_back(std::move(entry.second));
    finishing_.clear();
    for (auto& job : queue_) failed.push_back(std::move(job));
    queue_.clear();
  }
  for (auto& job : failed) finish(std::move(job), false);
}

void BulkWriter::finish(std::unique_ptr<Job> job, bool ok) {
  job->result.ok = ok;
  if (!ok) {
    // Some of its WRITEs may still be under way: the memory is let go when the connection has ended.
    std::lock_guard lock(mutex_);
    retained_.push_back(std::move(job->work.keep_alive));
  }
  job->done(job->result);
}

}  // namespace rdma_migrate::engine
