#include "iwarp/move_frames.h"

#include <arpa/inet.h>

#include <algorithm>

#include "error.h"
#include "iwarp/byte_stream.h"

namespace rdma_migrate::iwarp {
namespace {

constexpr uint32_t kAnnouncementMagic = 0x524d514e;  // "RMQN"
constexpr uint16_t kVersion = 1;
constexpr uint32_t kAhead = 1;  // the only flag of PREPARE
constexpr std::chrono::milliseconds kLongestPause = std::chrono::hours(24);

constexpr size_t kWordSize = kControlHeadSize + 16;

[[noreturn]] void bad_plan(const std::string& what) { throw Error("INVALID_ARGUMENT", what); }

void write_place(const fabric::Endpoint& place, ByteWriter& out) {
  uint8_t address[16] = {};
  const bool is_v4 = inet_pton(AF_INET, place.host.c_str(), address) == 1;
  if (!is_v4 && inet_pton(AF_INET6, place.host.c_str(), address) != 1)
    bad_plan("the new place '" + place.host + "' is no numeric address");
  if (place.port == 0) bad_plan("the new place '" + place.host + "' has no port");
  out.u8(is_v4 ? 4 : 6);
  out.u16(place.port);
  out.bytes(address);
}

std::optional<fabric::Endpoint> read_place(ByteReader& in) {
  const uint8_t family = in.u8();
  const uint16_t port = in.u16();
  uint8_t address[16];
  in.bytes(address);
  const bool is_v4 = family == 4;
  if ((!is_v4 && family != 6) || port == 0 ||
      (is_v4 && std::any_of(address + 4, address + 16, [](uint8_t byte) { return byte != 0; })))
    return std::nullopt;
  char text[INET6_ADDRSTRLEN];
  inet_ntop(is_v4 ? AF_INET : AF_INET6, address, text, sizeof text);
  return fabric::Endpoint{text, port};
}

void write_terms(const ResumeTail& terms, ByteWriter& out) {
  out.bytes(terms.id);
  out.bytes(terms.ticket.view());
}

ResumeTail read_terms(ByteReader& in) {
  ResumeTail terms;
  in.bytes(terms.id);
  in.bytes(terms.ticket.view());
  return terms;
}

// Bytes of the fields after the move's id; nothing: no such message.
std::optional<size_t> fields_of(Control kind) {
  switch (kind) {
    case Control::kPrepared:
    case Control::kAborted:
      return 4;
    case Control::kStop:
      return 8;
    case Control::kStopped:
      return 16;
    case Control::kAbort:
      return 0;
    default:
      return std::nullopt;
  }
}

bool can_answer(Control kind, Answered answer) {
  switch (answer) {
    case Answered::kOk:
      return true;
    case Answered::kBusy:
    case Answered::kUnreachable:
      return kind == Control::kPrepared;
    case Answered::kAlreadyMoved:
      return kind == Control::kAborted;
  }
  return false;
}

}  // namespace

fabric::Bytes encode_prepare(const Prepare& prepare) {
  if (prepare.to.empty() || prepare.to.size() > fabric::MovePlan::kMostPlaces)
    bad_plan("a move has 1 to 4 addresses of its new place");
  if (prepare.longest_pause.count() <= 0 || prepare.longest_pause > kLongestPause)
    bad_plan("the longest pause of a move is 1 ms to a day");
  fabric::Bytes payload;
  append_control_head(Control::kPrepare, payload);
  ByteWriter out(payload);
  out.bytes(prepare.move);
  write_terms(prepare.terms, out);
  out.u32(static_cast<uint32_t>(prepare.longest_pause.count()));
  out.u32(prepare.ahead ? kAhead : 0);
  for (const fabric::Endpoint& each : prepare.to) write_place(each, out);
  return payload;
}

std::optional<Prepare> decode_prepare(std::span<const uint8_t> payload) {
  if (control_kind(payload) != Control::kPrepare || payload.size() < kPrepareSize) return std::nullopt;
  const size_t places = (payload.size() - kPrepareSize) / kPlaceSize;
  if (places == 0 || places > fabric::MovePlan::kMostPlaces ||
      payload.size() != kPrepareSize + places * kPlaceSize)
    return std::nullopt;
  ByteReader in(payload.subspan(kControlHeadSize));
  Prepare prepare;
  in.bytes(prepare.move);
  prepare.terms = read_terms(in);
  prepare.longest_pause = std::chrono::milliseconds(in.u32());
  const uint32_t flags = in.u32();
  prepare.ahead = flags == kAhead;
  if (prepare.longest_pause.count() == 0 || prepare.longest_pause > kLongestPause ||
      (flags != 0 && flags != kAhead))
    return std::nullopt;
  for (size_t at = 0; at < places; ++at) {
    std::optional<fabric::Endpoint> place = read_place(in);
    if (!place) return std::nullopt;
    prepare.to.push_back(std::move(*place));
  }
  return prepare;
}

fabric::Bytes encode_word(const MoveWord& word) {
  fabric::Bytes payload;
  append_control_head(word.kind, payload);
  ByteWriter out(payload);
  out.bytes(word.move);
  if (word.kind == Control::kPrepared || word.kind == Control::kAborted)
    out.u32(static_cast<uint32_t>(word.answer));
  if (word.kind == Control::kStop || word.kind == Control::kStopped) out.u64(word.tx_seq);
  if (word.kind == Control::kStopped) out.u64(word.rx_seq);
  return payload;
}

std::optional<MoveWord> decode_word(std::span<const uint8_t> payload) {
  const std::optional<Control> kind = control_kind(payload);
  const std::optional<size_t> fields = kind ? fields_of(*kind) : std::nullopt;
  if (!fields || payload.size() != kWordSize + *fields) return std::nullopt;
  ByteReader in(payload.subspan(kControlHeadSize));
  MoveWord word;
  word.kind = *kind;
  in.bytes(word.move);
  if (*fields == 4) word.answer = static_cast<Answered>(in.u32());
  if (*fields >= 8) word.tx_seq = in.u64();
  if (*fields == 16) word.rx_seq = in.u64();
  if (!can_answer(word.kind, word.answer)) return std::nullopt;
  return word;
}

fabric::Bytes encode_announcement(const Announcement& announcement) {
  fabric::Bytes bytes;
  ByteWriter out(bytes);
  out.u32(kAnnouncementMagic);
  out.u16(kVersion);
  out.u16(announcement.crc ? 1 : 0);
  write_terms(announcement.terms, out);
  return bytes;
}

Announcement decode_announcement(std::span<const uint8_t> bytes) {
  ByteReader in(bytes);
  const bool is_one = in.u32() == kAnnouncementMagic && in.u16() == kVersion;
  const uint16_t crc = in.u16();
  Announcement announcement{read_terms(in), crc == 1};
  if (!is_one || crc > 1 || !in.at_end())
    throw Error("IMAGE_INVALID", "these bytes announce no queue pair that moves");
  return announcement;
}

}  // namespace rdma_migrate::iwarp
