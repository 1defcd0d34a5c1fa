// What the FPDUs mean: checks, targets, completions.
#include <algorithm>
#include <cstdio>
#include <utility>

#include "iwarp/move_frames.h"
#include "iwarp/receiver.h"

namespace rdma_migrate::iwarp {
namespace {

constexpr size_t kMaxTerminateSize = 512;

std::string hex(uint64_t value) {
  char text[20];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

RdmapOpcode opcode_of(const DdpHeader& header) { return static_cast<RdmapOpcode>(header.opcode); }

std::string range_text(uint64_t size, uint64_t at) { return std::to_string(size) + " bytes at " + hex(at); }

}  // namespace

void Receiver::check_header() const {
  if (header_.ddp_version != kDdpVersion) {
    fault(header_.tagged ? TerminateCode::kTaggedInvalidVersion : TerminateCode::kUntaggedInvalidVersion,
          "DDP version " + std::to_string(header_.ddp_version) + ", expected 1");
  }
  if (header_.rdmap_version != kRdmapVersion) {
    fault(TerminateCode::kRdmapInvalidVersion,
          "RDMAP version " + std::to_string(header_.rdmap_version) + ", expected 1");
  }
  const bool must_be_tagged =
      opcode_of(header_) == RdmapOpcode::kWrite || opcode_of(header_) == RdmapOpcode::kReadResponse;
  const bool is_known_opcode = header_.opcode <= static_cast<uint8_t>(RdmapOpcode::kTerminate) ||
                               (messages_.log.on() && opcode_of(header_) == RdmapOpcode::kControl);
  if (!is_known_opcode || header_.tagged != must_be_tagged) {
    fault(TerminateCode::kRdmapUnexpectedOpcode,
          "opcode " + std::to_string(header_.opcode) +
              (header_.tagged ? " in a tagged segment" : " in an untagged segment"));
  }
}

// Until its connection is protected a peer may be anybody, and has no business in memory but what is posted.
bool Receiver::is_known() const { return records_ || !messages_.holds.load(std::memory_order_relaxed); }

// A SEND of nothing while the ready-to-receive message is owed is that message, and takes no RECV.
bool Receiver::is_ready_message() const {
  return awaits_ready_ && opcode_of(header_) == RdmapOpcode::kSend && payload_ == 0 && header_.last;
}

void Receiver::become_ready() {
  awaits_ready_ = false;
  became_ready_ = true;
}

void Receiver::begin_message() {
  // Told of at once: a message must not complete before the queue pair is established.
  if (awaits_ready_ && !is_ready_message()) become_ready();
  phase_ = payload_ == 0 ? Phase::kTrailer : Phase::kPayload;
  stores_ = false;
  run_of_fpdu_ = 0;
  if (end_said_) fault(TerminateCode::kRdmapUnexpectedOpcode, "a message after END");
  switch (opcode_of(header_)) {
    case RdmapOpcode::kWrite:
      return begin_write();
    case RdmapOpcode::kReadRequest:
      return begin_read_request();
    case RdmapOpcode::kReadResponse:
      return begin_read_response();
    case RdmapOpcode::kTerminate:
      return begin_terminate();
    case RdmapOpcode::kControl:
      return begin_control();
    default:
      return begin_send();
  }
}

void Receiver::begin_write() {
  if (payload_ != 0) find_write_target();
}

void Receiver::find_write_target() {
  RegionTable& regions = *messages_.regions;
  const uint64_t generation = regions.generation();
  if (cached_.stag != header_.stag || cached_generation_ != generation) {
    cached_ = regions.find(header_.stag).value_or(Region{});
    cached_generation_ = generation;
  }
  const uint64_t at = header_.target_offset;
  const auto what = [&] { return "a WRITE of " + range_text(payload_, at); };
  if (!is_known()) fault(TerminateCode::kRdmapAccessRights, what() + " before the connection is protected");
  if (at > UINT64_MAX - (payload_ - 1))
    fault(TerminateCode::kTaggedOffsetWrap, what() + " wraps around the end of the address space");
  if (cached_.stag == 0 || cached_.stag != header_.stag)
    fault(TerminateCode::kTaggedInvalidStag, what() + " names the unknown STag " + hex(header_.stag));
  if ((cached_.access & fabric::kAccessRemoteWrite) == 0)
    fault(TerminateCode::kRdmapAccessRights, what() + " to a region without remote write access");
  if (!cached_.covers_wire(at, payload_)) {
    fault(TerminateCode::kTaggedBaseOrBounds,
          what() + " leaves its region of " + range_text(cached_.length, cached_.wire_base));
  }
  target_ = {cached_, generation, cached_.local_of(at), fabric::kAccessRemoteWrite,
             TerminateCode::kTaggedInvalidStag};
  stores_ = finds_fresh_pages();
}

// Memory that this side has posted for what arrives. skip: bytes of it that are there already.
void Receiver::set_local_target(uint32_t stag, uint64_t address, uint64_t length, uint64_t skip) {
  RegionTable& regions = *messages_.regions;
  const uint64_t generation = regions.generation();
  const std::optional<Region> region = regions.find(stag);
  if (!region || !region->covers_wire(address, length)) {
    throw WireFault(TerminateCode::kRdmapCatastrophic,
                    Error("INVALID_ARGUMENT",
                          "the memory region of a posted RECV or READ was deregistered before it was used"));
  }
  target_ = {*region, generation, region->local_of(address) + skip, fabric::kAccessLocalWrite,
             TerminateCode::kRdmapCatastrophic};
}

void Receiver::expect_queue(DdpQueue queue) const {
  if (header_.queue == static_cast<uint32_t>(queue)) return;
  fault(TerminateCode::kUntaggedInvalidQueue,
        "opcode " + std::to_string(header_.opcode) + " on queue " + std::to_string(header_.queue));
}

void Receiver::begin_send() {
  expect_queue(DdpQueue::kSend);
  const uint32_t due = messages_.received_sends + 1;
  if (header_.msn != due) {
    fault(TerminateCode::kUntaggedInvalidMsn,
          "SEND number " + std::to_string(header_.msn) + " where " + std::to_string(due) + " was due");
  }
  if (is_ready_message()) return;
  const std::optional<fabric::RecvWorkRequest> request = messages_.recv_queue.front();
  if (!request) fault(TerminateCode::kUntaggedNoBuffer, "a SEND arrived while no RECV was posted");
  if (header_.message_offset != send_received_) {
    fault(TerminateCode::kUntaggedInvalidOffset, "a SEND's segment for offset " +
                                                     std::to_string(header_.message_offset) + " where " +
                                                     std::to_string(send_received_) + " was due");
  }
  if (payload_ > request->length - send_received_) {
    fault(TerminateCode::kUntaggedTooLong,
          "a SEND is longer than the RECV of " + std::to_string(request->length) + " bytes");
  }
  recv_ = *request;
  send_open_ = true;
  if (payload_ != 0) set_local_target(recv_.lkey, recv_.address, recv_.length, send_received_);
}

void Receiver::begin_read_request() {
  expect_queue(DdpQueue::kReadRequest);
  const uint32_t due = messages_.received_reads + 1;
  if (header_.msn != due) {
    fault(TerminateCode::kUntaggedInvalidMsn,
          "READ number " + std::to_string(header_.msn) + " where " + std::to_string(due) + " was due");
  }
  if (header_.message_offset != 0) fault(TerminateCode::kUntaggedInvalidOffset, "a READ request in segments");
  if (payload_ > kReadRequestSize) fault(TerminateCode::kUntaggedTooLong, "a READ request that is too long");
  if (payload_ < kReadRequestSize || !header_.last)
    fault(TerminateCode::kRdmapUnspecified, "a READ request that is cut short");
  phase_ = Phase::kInline;
}

void Receiver::begin_terminate() {
  expect_queue(DdpQueue::kTerminate);
  if (payload_ > kMaxTerminateSize) fault(TerminateCode::kUntaggedTooLong, "a TERMINATE that is too long");
  inline_.clear();
  if (payload_ != 0) phase_ = Phase::kInline;
}

void Receiver::begin_control() {
  expect_queue(DdpQueue::kControl);
  const uint32_t due = messages_.log.due_control();
  if (header_.msn != due) {
    fault(TerminateCode::kUntaggedInvalidMsn, "control message number " + std::to_string(header_.msn) +
                                                  " where " + std::to_string(due) + " was due");
  }
  if (header_.message_offset != 0 || !header_.last)
    fault(TerminateCode::kUntaggedInvalidOffset, "a control message in segments");
  if (payload_ > kMostControl) fault(TerminateCode::kUntaggedTooLong, "a control message that is too long");
  if (payload_ < kEndSize) fault(TerminateCode::kRdmapUnspecified, "a control message that is cut short");
  phase_ = Phase::kInline;
}

void Receiver::begin_read_response() {
  if (messages_.pending_reads.empty())
    fault(TerminateCode::kRdmapUnexpectedOpcode, "a READ response that no READ asked for");
  const PendingRead& read = messages_.pending_reads.front();
  const uint32_t left = read.length - read_received_;
  // The key and offset of an empty response do not count.
  if (payload_ != 0 &&
      (header_.stag != read.stag || header_.target_offset != read.address + read_received_)) {
    fault(TerminateCode::kTaggedInvalidStag, "a READ response for another place than was asked for");
  }
  if (payload_ > left || header_.last != (payload_ == left))
    fault(TerminateCode::kTaggedBaseOrBounds, "a READ response of another length than was asked for");
  if (payload_ != 0) set_local_target(read.stag, read.address, read.length, read_received_);
}

// Pad and CRC are good.
void Receiver::end_message() {
  if (awaits_ready_) {
    if (ulpdu_ != 0) ++messages_.received_sends;
    return become_ready();
  }
  if (messages_.log.on() && !messages_.log.has_heard() && messages_.user) messages_.user->heard_first();
  if (messages_.log.on() && opcode_of(header_) != RdmapOpcode::kControl) {
    messages_.log.receive_payload(payload_);
    if (header_.last) messages_.log.receive_message();
    if (opcode_of(header_) == RdmapOpcode::kWrite) count_write();
  }
  switch (opcode_of(header_)) {
    case RdmapOpcode::kWrite:
      return end_write();
    case RdmapOpcode::kReadRequest:
      return end_read_request();
    case RdmapOpcode::kReadResponse:
      return end_read_response();
    case RdmapOpcode::kTerminate:
      throw Error("TERMINATE_RECEIVED",
                  peer_ + " gave up the connection: " + describe(decode_terminate(inline_)) +
                      "; see the peer's log for the reason");
    case RdmapOpcode::kControl:
      return end_control();
    default:
      return end_send();
  }
}

// Whole: what was cut short comes again from its beginning.
void Receiver::count_write() {
  write_received_ += payload_;
  if (!header_.last) return;
  messages_.counters.write_bytes_placed.fetch_add(std::exchange(write_received_, 0),
                                                  std::memory_order_relaxed);
}

void Receiver::end_control() {
  messages_.log.receive_control();
  const std::optional<ControlMessage> message = decode_control(inline_);
  if (!message) {
    if (messages_.user) return messages_.user->heard_control(inline_);
    fault(TerminateCode::kRdmapUnspecified, "a control message that is none, or of a wrong length");
  }
  if (message->kind == Control::kEnd) {
    end_said_ = true;
  } else {
    acknowledge(message->rx_seq);
  }
}

void Receiver::acknowledge(uint64_t rx_seq) {
  const uint64_t before = messages_.log.acked();
  if (messages_.log.acknowledge(rx_seq)) return;
  fault(TerminateCode::kRdmapStreamCatastrophe,
        "an acknowledgement of message " + std::to_string(rx_seq) + ", where " + std::to_string(before) +
            " had been acknowledged and " + std::to_string(messages_.log.last()) + " begun");
}

void Receiver::end_send() {
  send_received_ += static_cast<uint32_t>(payload_);
  if (!header_.last) return;
  const RdmapOpcode opcode = opcode_of(header_);
  const bool invalidates =
      opcode == RdmapOpcode::kSendInvalidate || opcode == RdmapOpcode::kSendSolicitedInvalidate;
  if (invalidates && !messages_.regions->invalidate(header_.invalidate_stag)) {
    fault(TerminateCode::kRdmapCannotInvalidate,
          "a SEND asks to invalidate the unknown STag " + hex(header_.invalidate_stag));
  }
  const fabric::Completion completion{recv_.wr_id, fabric::Opcode::kRecv, fabric::Status::kSuccess,
                                      send_received_};
  ++messages_.received_sends;
  send_open_ = false;
  send_received_ = 0;
  watch_.end();
  messages_.recv_queue.pop();
  if (!records_ && messages_.holds.load()) {
    messages_.held.store(true);
    if (!messages_.holds.load()) messages_.held.store(false);  // let go for good meanwhile
  }
  messages_.events.on_recv({&completion, 1});
}

void Receiver::end_read_request() {
  has_read_request_ = true;
  ++messages_.received_reads;
  const ReadRequest request =
      decode_read_request(std::span<const uint8_t, kReadRequestSize>(inline_.data(), kReadRequestSize));
  check_read_source(request);
  if (messages_.read_jobs.size() >= messages_.ird)
    fault(TerminateCode::kUntaggedInvalidMsn, "more READs at a time than were agreed");
  messages_.read_jobs.push_back(
      {request.sink_stag, request.sink_offset, request.source_stag, request.source_offset, request.length});
}

void Receiver::check_read_source(const ReadRequest& request) const {
  if (request.length == 0) return;  // RFC 5040 section 5.2: neither key nor offset counts
  const std::string what = "a READ of " + range_text(request.length, request.source_offset);
  if (!is_known()) fault(TerminateCode::kRdmapAccessRights, what + " before the connection is protected");
  if (request.source_offset > UINT64_MAX - (request.length - 1))
    fault(TerminateCode::kRdmapOffsetWrap, what + " wraps around the end of the address space");
  const std::optional<Region> region = messages_.regions->find(request.source_stag);
  if (!region)
    fault(TerminateCode::kRdmapInvalidStag, what + " names the unknown STag " + hex(request.source_stag));
  if ((region->access & fabric::kAccessRemoteRead) == 0)
    fault(TerminateCode::kRdmapAccessRights, what + " from a region without remote read access");
  if (!region->covers_wire(request.source_offset, request.length)) {
    fault(TerminateCode::kRdmapBaseOrBounds,
          what + " leaves its region of " + range_text(region->length, region->wire_base));
  }
}

void Receiver::end_read_response() {
  read_received_ += static_cast<uint32_t>(payload_);
  if (!header_.last) return;
  read_received_ = 0;
  // Who answers a READ has its request. An acknowledgement of it may have come before.
  if (messages_.log.on() && messages_.pending_reads.front().seq > messages_.log.acked())
    acknowledge(messages_.pending_reads.front().seq);
  messages_.pending_reads.pop_front();
  watch_.end();
  messages_.send_queue.mark_read_done();
}

void Receiver::fault(TerminateCode code, const std::string& what) const {
  throw make_fault(code, "bad message from " + peer_ + ": " + what);
}

}  // namespace rdma_migrate::iwarp
