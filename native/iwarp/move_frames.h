// What the ends of a queue pair say to each other while one of them moves: RDMAP messages as in
// resume_frames.h. And what the old place tells the new one ahead of the image. Pure.
//
//   who moves    its peer
//   PREPARE   -> PREPARED   the new place, and the id and the ticket that count there
//   STOP      -> STOPPED    nothing more is begun, behind everything that was
//   ABORT     -> ABORTED    it stays; or it has gone: ALREADY_MOVED, which also comes without a question
#pragma once

#include "fabric/move.h"
#include "iwarp/resume_frames.h"

namespace rdma_migrate::iwarp {

using fabric::MoveId;

struct Prepare {
  MoveId move{};
  ResumeTail terms;
  std::chrono::milliseconds longest_pause{};
  bool ahead = true;
  std::vector<fabric::Endpoint> to;
};
// In front of every other one.
enum class Answered : uint32_t {
  kOk = 0,
  kBusy = 1,         // PREPARED: this end moves itself
  kUnreachable = 2,  // PREPARED: the new place
  kAlreadyMoved = 3  // ABORTED
};
struct MoveWord {
  Control kind = Control::kStop;
  MoveId move{};
  Answered answer = Answered::kOk;  // PREPARED, ABORTED
  uint64_t tx_seq = 0;              // STOP, STOPPED: messages that were begun
  uint64_t rx_seq = 0;              // STOPPED
};

constexpr size_t kPlaceSize = 1 + 2 + 16;
constexpr size_t kPrepareSize = kControlHeadSize + 16 + 16 + 32 + 4 + 4;  // and the places
constexpr size_t kMostControl = kPrepareSize + fabric::MovePlan::kMostPlaces * kPlaceSize;

// Throws Error INVALID_ARGUMENT: a host that is no numeric address, too many of them or none, or a pause of
// more than a day.
fabric::Bytes encode_prepare(const Prepare& prepare);
fabric::Bytes encode_word(const MoveWord& word);
// Nothing: it is none, of a wrong length, or has values that cannot be.
std::optional<Prepare> decode_prepare(std::span<const uint8_t> payload);
std::optional<MoveWord> decode_word(std::span<const uint8_t> payload);

// From the old place to the new one.
struct Announcement {
  ResumeTail terms;
  bool crc = false;
};
fabric::Bytes encode_announcement(const Announcement& announcement);
// Throws Error IMAGE_INVALID.
Announcement decode_announcement(std::span<const uint8_t> bytes);

}  // namespace rdma_migrate::iwarp
