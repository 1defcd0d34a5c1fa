// How memory that is only sent from is registered in pieces: devices bound one registration, and pieces can
// be pinned by several threads at once.
#pragma once

#include <algorithm>
#include <cstdint>

namespace rdma_migrate::verbs {

// The least that is worth a registration of its own. No request is longer (engine::kMaxWriteBytes), so that
// it lies in two neighbouring pieces at most.
inline constexpr uint64_t kLeastPiece = 64 << 20;
// Enough to share out; devices count registrations.
inline constexpr uint64_t kMostPieces = 64;
inline constexpr uint64_t kPieceUnit = 2 << 20;  // a huge page

// Bytes in each piece of a range, the last one fewer. limit: of the device for one registration, not 0.
inline uint64_t piece_size(uint64_t length, uint64_t limit) {
  const uint64_t share = length / kMostPieces + (length % kMostPieces == 0 ? 0 : 1);
  const uint64_t rounded =
      share > UINT64_MAX - kPieceUnit ? share : (share + kPieceUnit - 1) / kPieceUnit * kPieceUnit;
  const uint64_t wanted = std::max(kLeastPiece, rounded);
  if (wanted <= limit) return wanted;
  return limit < kPieceUnit ? limit : limit / kPieceUnit * kPieceUnit;
}

}  // namespace rdma_migrate::verbs
