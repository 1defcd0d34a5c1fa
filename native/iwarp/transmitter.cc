#include "iwarp/transmitter.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>

#include "memory/guarded.h"

namespace rdma_migrate::iwarp {
namespace {

constexpr size_t kTakeAtOnce = 32;

// Batches that no queue pair of this thread needs now: an idle queue pair keeps none.
thread_local std::vector<std::unique_ptr<TxBatch>> spare_batches;
constexpr size_t kMostSpare = 4;

std::unique_ptr<TxBatch> take_batch() {
  if (spare_batches.empty()) return std::make_unique<TxBatch>();
  std::unique_ptr<TxBatch> batch = std::move(spare_batches.back());
  spare_batches.pop_back();
  return batch;
}

void give_back(std::unique_ptr<TxBatch> batch) {
  if (batch && spare_batches.size() < kMostSpare) spare_batches.push_back(std::move(batch));
}

}  // namespace

void Transmitter::open(int socket, bool crc) {
  socket_ = socket;
  crc_ = crc;
}

Transmitter::Went Transmitter::transmit(size_t budget) {
  for (size_t sent = 0; sent < budget;) {
    if (!blocked_) {
      if (!fill()) {
        report();
        give_back(std::move(batch_));
        return Went::kIdle;
      }
      sent += batch_->bytes();
    }
    blocked_ = !send_batch();
    if (blocked_) return Went::kFull;
    report();
  }
  return Went::kOn;
}

void Transmitter::terminate(fabric::Bytes payload) {
  terminating_ = true;
  terminate_payload_ = std::move(payload);
}

bool Transmitter::fill() {
  if (!batch_) batch_ = take_batch();
  batch_->begin(*messages_.regions, section_, crc_, records_ ? &*records_ : nullptr);
  finished_ = 0;
  most_payload_ = payload_limit();
  if (end_ != End::kOpen) return fill_last();
  if (terminating_) {
    // A message in the middle of its segments stays unfinished: TERMINATE is the last message of the stream.
    job_.reset();
    if (terminate_payload_.empty()) return false;
    DdpHeader header;
    header.last = true;
    header.opcode = static_cast<uint8_t>(RdmapOpcode::kTerminate);
    header.queue = static_cast<uint32_t>(DdpQueue::kTerminate);
    header.msn = 1;
    batch_->append(header, {.address = reinterpret_cast<uintptr_t>(terminate_payload_.data())},
                   terminate_payload_.size());
    terminate_payload_.clear();
    return true;
  }
  if (messages_.log.on()) {
    append_due_ack();
    append_controls();
  }
  if (failure_) {
    if (!batch_->empty() || awaits_acks_before_failure()) return !batch_->empty();
    messages_.oldest_failed = true;
    throw *failure_;
  }
  try {
    while (batch_->fits(most_payload_) && (job_ || next_job())) append_segment();
  } catch (const Error& error) {
    // Those before it leave first: then it is the oldest that is not done.
    if (batch_->empty() && !awaits_acks_before_failure()) throw;
    messages_.oldest_failed = false;
    failure_ = error;
  }
  return !batch_->empty();
}

// An FPDU fits into one TCP segment (RFC 5044 section 5.1), unless the peer is known not to care; in records
// there are no segments. Asked again for each batch: the path may change.
size_t Transmitter::payload_limit() const {
  if (records_ || messages_.large_segments.load(std::memory_order_relaxed)) return TxBatch::kMaxPayload;
  int segment = 0;
  socklen_t size = sizeof segment;
  if (getsockopt(socket_, IPPROTO_TCP, TCP_MAXSEG, &segment, &size) != 0) return TxBatch::kMaxPayload;
  constexpr int kOverhead = kMaxHeaderSize + kMaxTrailerSize;
  constexpr int kLeast = 256;  // a path that tells of less is broken
  const int room = std::max(segment - kOverhead, kLeast) & ~7;
  return std::min(static_cast<size_t>(room), TxBatch::kMaxPayload);
}

bool Transmitter::next_job() {
  MessageLog& log = messages_.log;
  if (const LoggedMessage* const message = log.again()) {
    start_again(*message);
    log.start_again();
    return true;
  }
  if (messages_.stopped) return false;
  if (!messages_.read_jobs.empty() && !log.has_most_responses()) {
    const ReadJob read = messages_.read_jobs.front();
    start_response(read);
    if (log.on()) log.start({.response = read, .request = {}});
    messages_.read_jobs.pop_front();
    return true;
  }
  if (!take_more() || !start_request(taken_[next_taken_])) return false;
  if (log.on()) log.start({.response = {}, .request = taken_[next_taken_], .msn = job_->header.msn});
  ++next_taken_;
  return true;
}

// False: nothing is posted that has not been started.
bool Transmitter::take_more() {
  if (next_taken_ == taken_.size()) {
    next_taken_ = 0;
    messages_.send_queue.take(taken_, kTakeAtOnce);
  }
  return next_taken_ != taken_.size();
}

bool Transmitter::start_request(const fabric::SendWorkRequest& request) {
  if (request.opcode == fabric::Opcode::kRdmaRead) return start_read(request);
  const uint32_t number = messages_.sent_sends + (request.opcode == fabric::Opcode::kSend ? 1 : 0);
  start_message(request, number);
  messages_.sent_sends = number;
  return true;
}

void Transmitter::start_message(const fabric::SendWorkRequest& request, uint32_t send_number) {
  Job job;
  if (request.length != 0) {
    const Region& region = region_of(request.lkey);
    if (!region.covers_wire(request.address, request.length)) fail_deregistered();
    job.source.address = region.local_of(request.address);
    job.source.stag = request.lkey;
    job.source.generation = region_generation_;
  }
  job.left = request.length;
  if (request.opcode == fabric::Opcode::kRdmaWrite) {
    job.header.tagged = true;
    job.header.opcode = static_cast<uint8_t>(RdmapOpcode::kWrite);
    job.header.stag = request.rkey;
    job.header.target_offset = request.remote_address;
  } else {
    job.header.opcode = static_cast<uint8_t>(RdmapOpcode::kSend);
    job.header.queue = static_cast<uint32_t>(DdpQueue::kSend);
    job.header.msn = send_number;
  }
  job_ = job;
}

// As of region_generation_: batches check it again, and take the table's lock only when it has changed.
const Region& Transmitter::region_of(uint32_t stag) {
  const uint64_t generation = messages_.regions->generation();
  if (region_.stag != stag || region_generation_ != generation) {
    region_ = messages_.regions->find(stag).value_or(Region{});
    region_generation_ = generation;
  }
  return region_;
}

bool Transmitter::start_read(const fabric::SendWorkRequest& request) {
  // Posted before the handshake told so.
  if (messages_.ord == 0) fail_request("a READ, but the peer takes none (its IRD is 0)");
  if (messages_.pending_reads.size() >= messages_.ord) return false;
  check_sink(request);
  messages_.pending_reads.push_back(
      {request.lkey, request.address, request.length, messages_.log.last() + 1});
  ask(request, ++messages_.sent_reads);
  return true;
}

void Transmitter::check_sink(const fabric::SendWorkRequest& request) {
  if (request.length != 0 && !region_of(request.lkey).covers_wire(request.address, request.length))
    fail_deregistered();
}

void Transmitter::ask(const fabric::SendWorkRequest& request, uint32_t read_number) {
  encode_read_request({.sink_stag = request.lkey,
                       .sink_offset = request.address,
                       .length = request.length,
                       .source_stag = request.rkey,
                       .source_offset = request.remote_address},
                      read_request_);
  Job job;
  job.header.opcode = static_cast<uint8_t>(RdmapOpcode::kReadRequest);
  job.header.queue = static_cast<uint32_t>(DdpQueue::kReadRequest);
  job.header.msn = read_number;
  job.source.address = reinterpret_cast<uintptr_t>(read_request_);
  job.left = kReadRequestSize;
  job_ = job;
}

void Transmitter::start_response(const ReadJob& read) {
  Job job;
  job.header.tagged = true;
  job.header.opcode = static_cast<uint8_t>(RdmapOpcode::kReadResponse);
  job.header.stag = read.sink_stag;
  job.header.target_offset = read.sink_offset;
  if (read.length != 0) {
    const Region& region = region_of(read.source_stag);
    if ((region.access & fabric::kAccessRemoteRead) == 0 ||
        !region.covers_wire(read.source_offset, read.length))
      fail_deregistered();
    job.source = {.address = region.local_of(read.source_offset),
                  .stag = read.source_stag,
                  .right = fabric::kAccessRemoteRead,
                  .generation = region_generation_};
  }
  job.left = read.length;
  job.is_response = true;
  job_ = job;
}

void Transmitter::append_segment() {
  Job& job = *job_;
  const size_t size = std::min<size_t>(most_payload_, job.left);
  job.header.last = size == job.left;
  switch (batch_->append(job.header, job.source, size)) {
    case TxBatch::Appended::kOk:
      break;
    case TxBatch::Appended::kDeregistered:
      fail_deregistered();
    case TxBatch::Appended::kUnreadable:
      fail_unreadable(batch_->fault_address());
  }
  job.left -= static_cast<uint32_t>(size);
  job.source.address += size;
  job.header.target_offset += size;
  job.header.message_offset += static_cast<uint32_t>(size);
  if (!job.header.last) return;
  if (messages_.log.on()) {
    messages_.log.emit();
  } else if (!job.is_response) {
    ++finished_;
  }
  job_.reset();
}

// False: the socket is full.
bool Transmitter::send_batch() {
  uint64_t sent = 0;
  const TxBatch::Outcome outcome = batch_->send(socket_, sent);
  if (sent != 0) messages_.counters.bytes_sent.fetch_add(sent, std::memory_order_relaxed);
  switch (outcome) {
    case TxBatch::Outcome::kDone:
      watch_.end();
      return true;
    case TxBatch::Outcome::kDeregistered:
      fail_deregistered();
    case TxBatch::Outcome::kFailed:
      fail_send();
    case TxBatch::Outcome::kWouldBlock:
      return false;
  }
  return false;
}

void Transmitter::report() {
  // Of responses too.
  if (std::exchange(acked_, messages_.log.acked()) != messages_.log.acked()) watch_.end();
  finished_ += messages_.log.take_acknowledged();
  if (finished_ != 0) messages_.send_queue.mark_sent(finished_);
  finished_ = 0;
  completions_.clear();
  messages_.send_queue.reap(completions_);
  if (!completions_.empty()) messages_.events.on_send(completions_);
}

bool Transmitter::awaits_peer() const { return blocked_ || !messages_.log.empty(); }

// The kernel tells of room when a third of its buffer is free, which may take minutes where the network is
// slow: what the peer has acknowledged is looked at meanwhile.
void Transmitter::check_stall(Clock::time_point now) {
  if (!awaits_peer()) return watch_.end();
  const uint64_t has = taken_by_peer();
  if (watch_.running()) watch_.moved(has - peer_had_);
  watch_.begin(now);
  peer_had_ = has;
  if (!watch_.stalled(now)) return;
  throw Error("TIMEOUT", peer_ + " has taken or acknowledged no data, or next to none, for " +
                             std::to_string(messages_.options.stall_timeout_ms) +
                             " ms; check the peer and the network");
}

std::optional<Clock::time_point> Transmitter::next_look(Clock::time_point now) {
  if (!awaits_peer()) return std::nullopt;
  return watch_.next_look(now);
}

uint64_t Transmitter::taken_by_peer() const {
  int waiting = 0;
  if (ioctl(socket_, SIOCOUTQ, &waiting) != 0) waiting = 0;
  return messages_.counters.bytes_sent.load(std::memory_order_relaxed) - static_cast<uint64_t>(waiting);
}

void Transmitter::fail_deregistered() {
  fail_request("the memory region of a posted work request was deregistered before its bytes were sent");
}

void Transmitter::fail_request(const char* why) {
  messages_.oldest_failed = true;
  throw Error("INVALID_ARGUMENT", why);
}

void Transmitter::fail_unreadable(uint64_t address) {
  messages_.oldest_failed = true;
  throw memory::fault_error(address, "read");
}

void Transmitter::fail_send() {
  const int error_number = batch_->error_number();
  if (error_number == EFAULT) fail_unreadable(batch_->fault_address());
  throw Error("CONNECTION_LOST",
              "the connection to " + peer_ + " broke while sending; see the peer's log for the reason",
              error_number);
}

}  // namespace rdma_migrate::iwarp
