#include "iwarp/image.h"

#include <algorithm>

#include "iwarp/byte_order.h"
#include "iwarp/byte_stream.h"
#include "iwarp/crc32c.h"
#include "iwarp/handshake.h"

namespace rdma_migrate::iwarp {
namespace {

using fabric::Completion;
using fabric::Opcode;
using fabric::RecvWorkRequest;
using fabric::SendWorkRequest;

constexpr uint32_t kMagic = 0x524d5149;  // "RMQI"
constexpr uint16_t kVersion = 1;
constexpr size_t kHeadSize = 4 + 2 + 2 + 4;  // magic, version, flags, length of all
constexpr uint16_t kCrc = 1;
constexpr uint16_t kLargeSegments = 2;

constexpr size_t kSendSize = 8 + 1 + 1 + 8 + 4 + 4 + 8 + 4;
constexpr size_t kRecvSize = 8 + 8 + 4 + 4;
constexpr size_t kReadJobSize = 4 + 8 + 4 + 8 + 4;
constexpr size_t kPendingSize = 4 + 8 + 4 + 8;
constexpr size_t kCompletionSize = 8 + 1 + 1 + 4;
constexpr size_t kLeastLogged = 1 + 4 + std::min(kSendSize, kReadJobSize);

[[noreturn]] void invalid(const std::string& what) {
  throw Error("IMAGE_INVALID", "the image of a queue pair that moves " + what);
}

// One function for each thing, for both ways: a field cannot be written and not be read.
struct Writing {
  ByteWriter out;
  void operator()(uint8_t& value) { out.u8(value); }
  void operator()(uint32_t& value) { out.u32(value); }
  void operator()(uint64_t& value) { out.u64(value); }
  void operator()(std::span<uint8_t> bytes) { out.bytes(bytes); }
  template <typename Each, typename Visit>
  void each(Each& list, size_t, Visit visit) {
    out.u32(static_cast<uint32_t>(list.size()));
    for (auto& one : list) visit(*this, one);
  }
};

struct Reading {
  ByteReader in;
  void operator()(uint8_t& value) { value = in.u8(); }
  void operator()(uint32_t& value) { value = in.u32(); }
  void operator()(uint64_t& value) { value = in.u64(); }
  void operator()(std::span<uint8_t> bytes) { in.bytes(bytes); }
  template <typename Each, typename Visit>
  void each(Each& list, size_t least, Visit visit) {
    list.resize(in.count(least));
    for (auto& one : list) visit(*this, one);
  }
};

template <typename Way, typename Enum>
void visit_enum(Way& way, Enum& value, Enum most) {
  auto byte = static_cast<uint8_t>(value);
  way(byte);
  if (byte > static_cast<uint8_t>(most)) invalid("names something unknown");
  value = static_cast<Enum>(byte);
}

template <typename Way>
void visit_bool(Way& way, bool& value) {
  uint8_t byte = value ? 1 : 0;
  way(byte);
  if (byte > 1) invalid("has a flag that is none");
  value = byte == 1;
}

template <typename Way>
void visit_send(Way& way, SendWorkRequest& request) {
  way(request.wr_id);
  visit_enum(way, request.opcode, Opcode::kRdmaRead);
  visit_bool(way, request.signaled);
  way(request.address);
  way(request.length);
  way(request.lkey);
  way(request.remote_address);
  way(request.rkey);
}

template <typename Way>
void visit_recv(Way& way, RecvWorkRequest& request) {
  way(request.wr_id);
  way(request.address);
  way(request.length);
  way(request.lkey);
}

template <typename Way>
void visit_read_job(Way& way, ReadJob& job) {
  way(job.sink_stag);
  way(job.sink_offset);
  way(job.source_stag);
  way(job.source_offset);
  way(job.length);
}

template <typename Way>
void visit_pending(Way& way, PendingRead& read) {
  way(read.stag);
  way(read.address);
  way(read.length);
  way(read.seq);
}

template <typename Way>
void visit_completion(Way& way, Completion& completion) {
  way(completion.wr_id);
  visit_enum(way, completion.opcode, Opcode::kRecv);
  visit_enum(way, completion.status, fabric::Status::kError);
  way(completion.byte_len);
}

template <typename Way>
void visit_logged(Way& way, LoggedMessage& message) {
  bool is_response = message.response.has_value();
  visit_bool(way, is_response);
  way(message.msn);
  if (!is_response) return visit_send(way, message.request);
  if (!message.response) message.response.emplace();
  visit_read_job(way, *message.response);
}

template <typename Way>
void visit_all(Way& way, QueuePairImage& image) {
  way(std::span<uint8_t>(image.terms.id));
  way(image.terms.ticket.view());
  way(image.ord);
  way(image.ird);
  way(image.log.acked);
  way(image.log.highest);
  way(image.log.rx_seq);
  way(image.sent_sends);
  way(image.sent_reads);
  way(image.received_sends);
  way(image.received_reads);
  way(image.send_queue.done);
  way(image.send_queue.sent);
  way(image.send_queue.taken);
  way(image.send_queue.reads_answered);
  way.each(image.log.messages, kLeastLogged, [](auto& to, auto& each) { visit_logged(to, each); });
  way.each(image.send_queue.requests, kSendSize, [](auto& to, auto& each) { visit_send(to, each); });
  way.each(image.recv_queue, kRecvSize, [](auto& to, auto& each) { visit_recv(to, each); });
  way.each(image.pending_reads, kPendingSize, [](auto& to, auto& each) { visit_pending(to, each); });
  way.each(image.read_jobs, kReadJobSize, [](auto& to, auto& each) { visit_read_job(to, each); });
  way.each(image.completions, kCompletionSize, [](auto& to, auto& each) { visit_completion(to, each); });
}

size_t reads_among(const SendQueue::Saved& queue, uint64_t from, uint64_t to) {
  const auto at = queue.requests.begin();
  return static_cast<size_t>(
      std::count_if(at + static_cast<ptrdiff_t>(from), at + static_cast<ptrdiff_t>(to),
                    [](const SendWorkRequest& each) { return each.opcode == Opcode::kRdmaRead; }));
}

void check_queues(const QueuePairImage& image, const fabric::QueuePairOptions& options) {
  const SendQueue::Saved& queue = image.send_queue;
  if (queue.requests.size() > options.max_send_wr || image.recv_queue.size() > options.max_recv_wr)
    invalid("has more work requests than its queues have room for");
  if (image.completions.size() > 2 * (size_t{options.max_send_wr} + options.max_recv_wr))
    invalid("has more completions than its queues give");
  if (queue.done > queue.sent || queue.sent > queue.taken || queue.taken > queue.requests.size())
    invalid("has a send queue whose positions contradict each other");
  if (image.pending_reads.size() > image.ord || image.read_jobs.size() > image.ird ||
      image.ord > kReadDepth || image.ird > kReadDepth)
    invalid("has more READs under way than were agreed");
  if (reads_among(queue, queue.done, queue.taken) != image.pending_reads.size() + queue.reads_answered)
    invalid("has READs that nobody has posted");
}

void check_log(const QueuePairImage& image) {
  const MessageLog::Saved& log = image.log;
  const auto responses =
      static_cast<size_t>(std::count_if(log.messages.begin(), log.messages.end(),
                                        [](const LoggedMessage& each) { return each.response.has_value(); }));
  if (responses > MessageLog::kMostResponses ||
      log.messages.size() - responses != image.send_queue.taken - image.send_queue.sent)
    invalid("has messages on their way that nobody has posted");
  constexpr uint64_t kMost = UINT64_MAX / 2;  // messages, ever
  if (log.acked > kMost || log.rx_seq > kMost || log.highest < log.acked ||
      log.highest - log.acked > log.messages.size())
    invalid("stands where it cannot");
  for (const PendingRead& each : image.pending_reads) {
    if (each.seq > log.acked + log.messages.size()) invalid("awaits the answer to a READ that was not sent");
  }
}

}  // namespace

fabric::Bytes encode_image(const QueuePairImage& given) {
  QueuePairImage image = given;
  fabric::Bytes bytes;
  ByteWriter head(bytes);
  head.u32(kMagic);
  head.u16(kVersion);
  head.u16(static_cast<uint16_t>((image.crc ? kCrc : 0) | (image.large_segments ? kLargeSegments : 0)));
  head.u32(0);
  Writing way{ByteWriter(bytes)};
  visit_all(way, image);
  store_be32(bytes.data() + 8, static_cast<uint32_t>(bytes.size() + kCrcSize));
  head.u32(crc32c(bytes));
  return bytes;
}

QueuePairImage decode_image(std::span<const uint8_t> bytes, const fabric::QueuePairOptions& options) {
  if (bytes.size() < kHeadSize + kCrcSize || load_be32(bytes.data()) != kMagic) invalid("is none");
  if (load_be16(bytes.data() + 4) != kVersion)
    invalid("is of version " + std::to_string(load_be16(bytes.data() + 4)) + ", and this is 1");
  const std::span<const uint8_t> body = bytes.first(bytes.size() - kCrcSize);
  if (load_be32(bytes.data() + 8) != bytes.size() || load_be32(bytes.data() + body.size()) != crc32c(body))
    invalid("is cut short or damaged");
  const uint16_t flags = load_be16(bytes.data() + 6);
  if ((flags & ~(kCrc | kLargeSegments)) != 0) invalid("has a flag that is unknown here");
  Reading way{ByteReader(body.subspan(kHeadSize))};
  QueuePairImage image;
  image.crc = (flags & kCrc) != 0;
  image.large_segments = (flags & kLargeSegments) != 0;
  visit_all(way, image);
  if (!way.in.at_end()) invalid("is longer or shorter than it says");
  check_queues(image, options);
  check_log(image);
  return image;
}

}  // namespace rdma_migrate::iwarp
