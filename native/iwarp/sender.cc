#include "iwarp/sender.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <string>

#include "iwarp/wait.h"
#include "memory/guarded.h"

namespace rdma_migrate::iwarp {
namespace {

constexpr size_t kTakeAtOnce = 32;

}  // namespace

Sender::Sender(Link& link, fabric::ConnectionEvents& events)
    : link_(link), events_(events), batch_(*link.stags, link.crc), watch_(link.stall_timeout()) {
  taken_.reserve(kTakeAtOnce);
}

void Sender::run() noexcept {
  try {
    loop();
  } catch (const Stopped&) {
  } catch (const Error& error) {
    link_.set_sender_error(error);
  } catch (const std::exception& error) {
    link_.set_sender_error(Error("INTERNAL", std::string("the sending thread failed: ") + error.what()));
  }
  link_.sender_finished.store(true);
  link_.receiver_wake.signal();
}

void Sender::loop() {
  for (;;) {
    if (link_.stopping.load()) throw Stopped{};
    if (link_.terminating.load()) return send_terminate();
    if (!link_.may_send(Clock::now())) {
      wait_for(-1, 0, link_.sender_wake, link_.stopping, link_.first_send);
      continue;
    }
    if (fill()) {
      send_batch();
      report();
      continue;
    }
    report();
    if (link_.draining.load() && !job_ && link_.send_queue.drained() && link_.read_jobs.empty())
      return end_stream();
    wait_for(-1, 0, link_.sender_wake, link_.stopping, std::nullopt);
  }
}

bool Sender::fill() {
  batch_.clear();
  finished_ = 0;
  while (batch_.fits(TxBatch::kMaxPayload) && (job_ || next_job())) append_segment();
  return !batch_.empty();
}

bool Sender::next_job() {
  if (std::optional<ReadJob> response = link_.read_jobs.front()) {
    link_.read_jobs.pop();
    start_response(*response);
    return true;
  }
  if (next_taken_ == taken_.size()) {
    next_taken_ = 0;
    link_.send_queue.take(taken_, kTakeAtOnce);
  }
  if (next_taken_ == taken_.size() || !start_request(taken_[next_taken_])) return false;
  ++next_taken_;
  return true;
}

bool Sender::start_request(const fabric::SendWorkRequest& request) {
  if (request.opcode == fabric::Opcode::kRdmaRead) return start_read(request);
  start_message(request);
  return true;
}

void Sender::start_message(const fabric::SendWorkRequest& request) {
  Job job;
  // Checked when it was posted; generation 0 makes the batch check it again.
  job.source = {.address = request.address, .stag = request.length == 0 ? 0 : request.lkey};
  job.left = request.length;
  if (request.opcode == fabric::Opcode::kRdmaWrite) {
    job.header.tagged = true;
    job.header.opcode = static_cast<uint8_t>(RdmapOpcode::kWrite);
    job.header.stag = request.rkey;
    job.header.target_offset = request.remote_address;
  } else {
    job.header.opcode = static_cast<uint8_t>(RdmapOpcode::kSend);
    job.header.queue = static_cast<uint32_t>(DdpQueue::kSend);
    job.header.msn = send_msn_++;
  }
  job_ = job;
}

bool Sender::start_read(const fabric::SendWorkRequest& request) {
  if (!link_.pending_reads.push({request.lkey, request.address, request.length})) return false;
  encode_read_request({.sink_stag = request.lkey,
                       .sink_offset = request.address,
                       .length = request.length,
                       .source_stag = request.rkey,
                       .source_offset = request.remote_address},
                      read_request_);
  Job job;
  job.header.opcode = static_cast<uint8_t>(RdmapOpcode::kReadRequest);
  job.header.queue = static_cast<uint32_t>(DdpQueue::kReadRequest);
  job.header.msn = read_msn_++;
  job.source.address = reinterpret_cast<uintptr_t>(read_request_);
  job.left = kReadRequestSize;
  job_ = job;
  return true;
}

void Sender::start_response(const ReadJob& read) {
  Job job;
  job.header.tagged = true;
  job.header.opcode = static_cast<uint8_t>(RdmapOpcode::kReadResponse);
  job.header.stag = read.sink_stag;
  job.header.target_offset = read.sink_offset;
  job.source = {.address = read.source_address,
                .stag = read.length == 0 ? 0 : read.source_stag,
                .right = fabric::kAccessRemoteRead};
  job.left = read.length;
  job.is_response = true;
  job_ = job;
}

void Sender::append_segment() {
  Job& job = *job_;
  size_t size = std::min<size_t>(TxBatch::kMaxPayload, job.left);
  job.header.last = size == job.left;
  switch (batch_.append(job.header, job.source, size)) {
    case TxBatch::Appended::kOk:
      break;
    case TxBatch::Appended::kDeregistered:
      fail_deregistered();
    case TxBatch::Appended::kUnreadable:
      fail_unreadable();
  }
  job.left -= static_cast<uint32_t>(size);
  job.source.address += size;
  job.header.target_offset += size;
  job.header.message_offset += static_cast<uint32_t>(size);
  if (!job.header.last) return;
  if (!job.is_response) ++finished_;
  job_.reset();
}

void Sender::send_batch() {
  for (;;) {
    uint64_t sent = 0;
    TxBatch::Outcome outcome = batch_.send(link_.socket.get(), sent);
    if (sent != 0) link_.counters.bytes_sent.fetch_add(sent, std::memory_order_relaxed);
    switch (outcome) {
      case TxBatch::Outcome::kDone:
        return watch_.end();
      case TxBatch::Outcome::kDeregistered:
        fail_deregistered();
      case TxBatch::Outcome::kFailed:
        fail_send();
      case TxBatch::Outcome::kWouldBlock:
        wait_for_room();
    }
  }
}

// The kernel tells of room when a third of its buffer is free, which may take minutes where the network is
// slow: what the peer has acknowledged is looked at meanwhile.
void Sender::wait_for_room() {
  for (;;) {
    Clock::time_point now = Clock::now();
    const uint64_t has = taken_by_peer();
    if (watch_.running()) watch_.moved(has - peer_had_);
    watch_.begin(now);
    peer_had_ = has;
    if (watch_.stalled(now)) break;
    if (wait_for(link_.socket.get(), POLLOUT, link_.sender_wake, link_.stopping, watch_.next_look(now)) !=
        Waited::kTimeout)
      return;
  }
  throw Error("TIMEOUT", link_.peer + " has taken no data, or next to none, for " +
                             std::to_string(link_.options.stall_timeout_ms) +
                             " ms; check the peer and the network");
}

uint64_t Sender::taken_by_peer() const {
  int waiting = 0;
  if (ioctl(link_.socket.get(), SIOCOUTQ, &waiting) != 0) waiting = 0;
  return link_.counters.bytes_sent.load(std::memory_order_relaxed) - static_cast<uint64_t>(waiting);
}

void Sender::report() {
  if (finished_ != 0) link_.send_queue.mark_sent(finished_);
  finished_ = 0;
  completions_.clear();
  link_.send_queue.reap(completions_);
  for (const fabric::Completion& completion : completions_) events_.on_send(completion);
}

void Sender::send_terminate() {
  // A message in the middle of its segments stays unfinished: TERMINATE is the last message of the stream.
  job_.reset();
  fabric::Bytes payload = link_.terminate();
  DdpHeader header;
  header.last = true;
  header.opcode = static_cast<uint8_t>(RdmapOpcode::kTerminate);
  header.queue = static_cast<uint32_t>(DdpQueue::kTerminate);
  header.msn = 1;
  batch_.clear();
  batch_.append(header, {.address = reinterpret_cast<uintptr_t>(payload.data())}, payload.size());
  send_batch();
  end_stream();
}

void Sender::end_stream() {
  shutdown(link_.socket.get(), SHUT_WR);
  link_.fin_sent.store(true);
  link_.receiver_wake.signal();
}

void Sender::fail_deregistered() {
  link_.local_fault.store(true);
  throw Error("INVALID_ARGUMENT",
              "the memory region of a posted work request was deregistered before its bytes were sent");
}

void Sender::fail_unreadable() {
  link_.local_fault.store(true);
  throw memory::fault_error(batch_.fault_address(), "read");
}

void Sender::fail_send() {
  int error_number = batch_.error_number();
  if (error_number == EFAULT) fail_unreadable();
  throw Error("CONNECTION_LOST",
              "the connection to " + link_.peer + " broke while sending; see the peer's log for the reason",
              error_number);
}

}  // namespace rdma_migrate::iwarp
