#include "iwarp/receiver.h"

#include <algorithm>
#include <cstring>

#include "iwarp/byte_order.h"

namespace rdma_migrate::iwarp {
namespace {

constexpr size_t kMaxTerminateSize = 512;

std::string hex(uint64_t value) {
  char text[20];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

RdmapOpcode opcode_of(const DdpHeader& header) { return static_cast<RdmapOpcode>(header.opcode); }

}  // namespace

void Receiver::run(std::function<void()> on_ready, Clock::time_point ready_deadline) {
  on_ready_ = std::move(on_ready);
  if (on_ready_) stream_.set_deadline(ready_deadline);
  while (next_header()) {
    dispatch();
    if (link_.sender_finished.load(std::memory_order_relaxed)) {
      if (std::optional<Error> error = link_.local_sender_error()) throw *error;
    }
    stream_.expect_more(send_open_ || read_received_ != 0);
    stream_.read_ahead(!header_.tagged);
    if (link_.draining.load(std::memory_order_relaxed)) stream_.check_drain();
    if (link_.stopping.load(std::memory_order_relaxed)) throw Stopped{};
  }
  if (send_open_ || read_received_ != 0) {
    link_.truncated.store(true);
    throw Error(
        "CONNECTION_LOST",
        link_.peer + " ended the connection in the middle of a message; see the peer's log for the reason");
  }
}

bool Receiver::next_header() {
  raw_header_size_ = 0;
  has_read_request_ = false;
  for (;;) {
    if (!stream_.fill(kFpduLengthSize)) return false;
    stream_.begin_fpdu();
    ulpdu_ = load_be16(stream_.data());
    if (ulpdu_ != 0 || !on_ready_) break;
    // An empty FPDU is one of the forms of the ready-to-receive message.
    stream_.consume(kFpduLengthSize);
    finish();
    become_ready();
  }
  read_header(ulpdu_);
  check_header();
  if (on_ready_) {
    bool empty_send = opcode_of(header_) == RdmapOpcode::kSend && payload_ == 0 && header_.last;
    become_ready();
    if (empty_send) {
      expect_queue(DdpQueue::kSend);
      if (header_.msn != send_msn_)
        fault(TerminateCode::kUntaggedInvalidMsn, "unexpected message sequence number");
      ++send_msn_;
      finish();
      return next_header();
    }
  }
  return true;
}

void Receiver::read_header(size_t ulpdu) {
  if (ulpdu < kTaggedSize)
    fault(TerminateCode::kMpaLength,
          "an FPDU of " + std::to_string(ulpdu) + " bytes has no room for a header");
  stream_.fill(kFpduLengthSize + 1);
  size_t size = ddp_header_size(ddp_is_tagged(stream_.data()[kFpduLengthSize]));
  if (ulpdu < size)
    fault(TerminateCode::kMpaLength,
          "an FPDU of " + std::to_string(ulpdu) + " bytes has no room for a header");
  stream_.fill(kFpduLengthSize + size);
  std::memcpy(raw_header_, stream_.data() + kFpduLengthSize, size);
  raw_header_size_ = size;
  header_ = decode_ddp(raw_header_);
  payload_ = ulpdu - size;
  stream_.consume(kFpduLengthSize + size);
}

void Receiver::become_ready() {
  std::function<void()> on_ready = std::move(on_ready_);
  on_ready_ = nullptr;
  stream_.set_deadline(std::nullopt);
  on_ready();
}

void Receiver::check_header() const {
  if (header_.ddp_version != kDdpVersion) {
    fault(header_.tagged ? TerminateCode::kTaggedInvalidVersion : TerminateCode::kUntaggedInvalidVersion,
          "DDP version " + std::to_string(header_.ddp_version) + ", expected 1");
  }
  if (header_.rdmap_version != kRdmapVersion) {
    fault(TerminateCode::kRdmapInvalidVersion,
          "RDMAP version " + std::to_string(header_.rdmap_version) + ", expected 1");
  }
  bool must_be_tagged =
      opcode_of(header_) == RdmapOpcode::kWrite || opcode_of(header_) == RdmapOpcode::kReadResponse;
  if (header_.opcode > static_cast<uint8_t>(RdmapOpcode::kTerminate) || header_.tagged != must_be_tagged) {
    fault(TerminateCode::kRdmapUnexpectedOpcode,
          "opcode " + std::to_string(header_.opcode) +
              (header_.tagged ? " in a tagged segment" : " in an untagged segment"));
  }
}

void Receiver::dispatch() {
  switch (opcode_of(header_)) {
    case RdmapOpcode::kWrite:
      return on_write();
    case RdmapOpcode::kReadRequest:
      return on_read_request();
    case RdmapOpcode::kReadResponse:
      return on_read_response();
    case RdmapOpcode::kTerminate:
      return on_terminate();
    default:
      return on_send();
  }
}

void Receiver::on_write() {
  if (payload_ != 0) place(write_target());
  finish();
  auto* observer = link_.placement.load(std::memory_order_acquire);
  if (observer != nullptr && payload_ != 0) observer->placed(header_.target_offset, payload_);
}

Target Receiver::write_target() {
  uint64_t generation = link_.stags->generation();
  if (cached_.stag != header_.stag || cached_generation_ != generation) {
    cached_ = link_.stags->find(header_.stag).value_or(Region{});
    cached_generation_ = generation;
  }
  auto range = [this] { return std::to_string(payload_) + " bytes at " + hex(header_.target_offset); };
  if (header_.target_offset > UINT64_MAX - (payload_ - 1)) {
    fault(TerminateCode::kTaggedOffsetWrap,
          "a WRITE of " + range() + " wraps around the end of the address space");
  }
  if (cached_.stag == 0 || cached_.stag != header_.stag) {
    fault(TerminateCode::kTaggedInvalidStag,
          "a WRITE of " + range() + " names the unknown STag " + hex(header_.stag));
  }
  if ((cached_.access & fabric::kAccessRemoteWrite) == 0) {
    fault(TerminateCode::kRdmapAccessRights,
          "a WRITE of " + range() + " to a region without remote write access");
  }
  if (!cached_.covers(header_.target_offset, payload_)) {
    fault(TerminateCode::kTaggedBaseOrBounds, "a WRITE of " + range() + " leaves its region of " +
                                                  std::to_string(cached_.length) + " bytes at " +
                                                  hex(cached_.address));
  }
  return {cached_, cached_generation_, header_.target_offset, fabric::kAccessRemoteWrite,
          TerminateCode::kTaggedInvalidStag};
}

Target Receiver::local_target(uint32_t stag, uint64_t address, uint64_t length) {
  uint64_t generation = link_.stags->generation();
  std::optional<Region> region = link_.stags->find(stag);
  if (!region || !region->covers(address, length)) {
    throw WireFault(TerminateCode::kRdmapCatastrophic,
                    Error("INVALID_ARGUMENT",
                          "the memory region of a posted RECV or READ was deregistered before it was used"));
  }
  return {*region, generation, address, fabric::kAccessLocalWrite, TerminateCode::kRdmapCatastrophic};
}

// The whole payload of the FPDU in hand, and in the same call its trailer and the next header of the same
// kind.
void Receiver::place(const Target& target) {
  size_t next_header_size = kFpduLengthSize + ddp_header_size(header_.tagged);
  try {
    stream_.place(target, payload_, fpdu_pad(ulpdu_) + kCrcSize + next_header_size);
  } catch (const Error& error) {
    if (error.code() == "DISK_FULL" || error.code() == "IO_ERROR") throw PlacementFault{error};
    throw;
  }
}

void Receiver::expect_queue(DdpQueue queue) const {
  if (header_.queue == static_cast<uint32_t>(queue)) return;
  fault(TerminateCode::kUntaggedInvalidQueue,
        "opcode " + std::to_string(header_.opcode) + " on queue " + std::to_string(header_.queue));
}

void Receiver::on_send() {
  expect_queue(DdpQueue::kSend);
  if (header_.msn != send_msn_) {
    fault(TerminateCode::kUntaggedInvalidMsn,
          "SEND number " + std::to_string(header_.msn) + " where " + std::to_string(send_msn_) + " was due");
  }
  std::optional<fabric::RecvWorkRequest> request = link_.recv_queue.front();
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
  send_open_ = true;
  place_send(*request);
  if (header_.last) deliver_send(*request);
}

void Receiver::place_send(const fabric::RecvWorkRequest& request) {
  if (payload_ != 0) {
    Target target = local_target(request.lkey, request.address, request.length);
    target.address += send_received_;
    place(target);
  }
  finish();
  send_received_ += static_cast<uint32_t>(payload_);
}

bool Receiver::ends_with_invalidate() const {
  return opcode_of(header_) == RdmapOpcode::kSendInvalidate ||
         opcode_of(header_) == RdmapOpcode::kSendSolicitedInvalidate;
}

void Receiver::deliver_send(const fabric::RecvWorkRequest& request) {
  if (ends_with_invalidate() && !link_.stags->invalidate(header_.invalidate_stag)) {
    fault(TerminateCode::kRdmapCannotInvalidate,
          "a SEND asks to invalidate the unknown STag " + hex(header_.invalidate_stag));
  }
  fabric::Completion completion{request.wr_id, fabric::Opcode::kRecv, fabric::Status::kSuccess,
                                send_received_};
  ++send_msn_;
  send_open_ = false;
  send_received_ = 0;
  link_.recv_queue.pop();
  stream_.message_done();
  events_.on_recv(completion);
}

void Receiver::on_read_request() {
  expect_queue(DdpQueue::kReadRequest);
  if (header_.msn != read_msn_) {
    fault(TerminateCode::kUntaggedInvalidMsn,
          "READ number " + std::to_string(header_.msn) + " where " + std::to_string(read_msn_) + " was due");
  }
  if (header_.message_offset != 0) fault(TerminateCode::kUntaggedInvalidOffset, "a READ request in segments");
  if (payload_ > kReadRequestSize) fault(TerminateCode::kUntaggedTooLong, "a READ request that is too long");
  if (payload_ < kReadRequestSize || !header_.last)
    fault(TerminateCode::kRdmapUnspecified, "a READ request that is cut short");
  stream_.fill(kReadRequestSize);
  std::memcpy(raw_read_request_, stream_.data(), kReadRequestSize);
  has_read_request_ = true;
  stream_.consume(kReadRequestSize);
  finish();
  ++read_msn_;
  ReadRequest request = decode_read_request(std::span<const uint8_t, kReadRequestSize>(raw_read_request_));
  check_read_source(request);
  if (!link_.read_jobs.push({request.sink_stag, request.sink_offset, request.source_stag,
                             request.source_offset, request.length})) {
    fault(TerminateCode::kUntaggedInvalidMsn, "more READs at a time than were agreed");
  }
  link_.sender_wake.signal();
}

void Receiver::check_read_source(const ReadRequest& request) const {
  if (request.length == 0) return;  // RFC 5040 section 5.2: neither key nor offset counts
  std::string range = std::to_string(request.length) + " bytes at " + hex(request.source_offset);
  if (request.source_offset > UINT64_MAX - (request.length - 1)) {
    fault(TerminateCode::kRdmapOffsetWrap,
          "a READ of " + range + " wraps around the end of the address space");
  }
  std::optional<Region> region = link_.stags->find(request.source_stag);
  if (!region)
    fault(TerminateCode::kRdmapInvalidStag,
          "a READ of " + range + " names the unknown STag " + hex(request.source_stag));
  if ((region->access & fabric::kAccessRemoteRead) == 0) {
    fault(TerminateCode::kRdmapAccessRights,
          "a READ of " + range + " from a region without remote read access");
  }
  if (!region->covers(request.source_offset, request.length)) {
    fault(TerminateCode::kRdmapBaseOrBounds, "a READ of " + range + " leaves its region of " +
                                                 std::to_string(region->length) + " bytes at " +
                                                 hex(region->address));
  }
}

void Receiver::on_read_response() {
  std::optional<PendingRead> read = link_.pending_reads.front();
  if (!read) fault(TerminateCode::kRdmapUnexpectedOpcode, "a READ response that no READ asked for");
  uint32_t left = read->length - read_received_;
  bool fits = payload_ <= left && header_.last == (payload_ == left);
  // The key and offset of an empty response do not count.
  if (payload_ != 0 &&
      (header_.stag != read->stag || header_.target_offset != read->address + read_received_)) {
    fault(TerminateCode::kTaggedInvalidStag, "a READ response for another place than was asked for");
  }
  if (!fits)
    fault(TerminateCode::kTaggedBaseOrBounds, "a READ response of another length than was asked for");
  if (payload_ != 0) {
    Target target = local_target(read->stag, read->address, read->length);
    target.address += read_received_;
    place(target);
  }
  finish();
  read_received_ += static_cast<uint32_t>(payload_);
  if (!header_.last) return;
  read_received_ = 0;
  link_.pending_reads.pop();
  stream_.message_done();
  link_.send_queue.mark_read_done();
  link_.sender_wake.signal();
}

void Receiver::on_terminate() {
  expect_queue(DdpQueue::kTerminate);
  if (payload_ > kMaxTerminateSize) fault(TerminateCode::kUntaggedTooLong, "a TERMINATE that is too long");
  stream_.fill(payload_);
  TerminateCode code = decode_terminate({stream_.data(), payload_});
  stream_.consume(payload_);
  finish();
  throw Error("TERMINATE_RECEIVED", link_.peer + " gave up the connection: " + describe(code) +
                                        "; see the peer's log for the reason");
}

fabric::Bytes Receiver::terminate_payload(TerminateCode code) const {
  std::span<const uint8_t> read_request(raw_read_request_, has_read_request_ ? kReadRequestSize : 0);
  return encode_terminate(code, {raw_header_, raw_header_size_}, static_cast<uint16_t>(ulpdu_), read_request);
}

void Receiver::fault(TerminateCode code, const std::string& what) const {
  throw make_fault(code, "bad message from " + link_.peer + ": " + what);
}

}  // namespace rdma_migrate::iwarp
