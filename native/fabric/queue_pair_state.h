// The states of a queue pair, and the only function that knows which follows which.
//
//             connected         drain                drained, or the peer has ended it
//     INIT ------------> RTS ---------> SQD ----------------------------------.
//       |                 | ^            |                                    |
//       |    carrier lost | | restored   | carrier lost (SQD again after it)  |
//       | thawed          v |            v                                    v
//       |-------------> SUSPENDED  ------------------- given up -----------> ERROR
//       |                 RTS, SQD --- the peer broke the rules --> TERMINATE --^
//       '------------------------------ refused, closed ------------------------'
//
// INIT: receives can be posted, and sends, which wait. RTS (ready to send): both queues work. SQD (send queue
// drained): what was posted is still sent, nothing more is taken. SUSPENDED: without a carrier, the queues as
// they are. TERMINATE: the peer is being told what it did. ERROR: what is left has been flushed.
#pragma once

#include <cstdint>
#include <optional>

namespace rdma_migrate::fabric {

enum class QueuePairState : uint8_t { kInit, kRts, kSqd, kSuspended, kTerminate, kError };

enum class QueuePairChange : uint8_t {
  kConnected,        // the handshake is over
  kDrain,            // disconnect() was called
  kCarrierLost,      // and the queue pair outlives it
  kCarrierRestored,  // positions are agreed on the new one
  kThawed,           // moved here from another process
  kFault,            // the peer broke the rules, and can be told
  kEnd,              // of whatever kind
};

// Nothing: it cannot happen in that state.
constexpr std::optional<QueuePairState> next_state(QueuePairState state, QueuePairChange change) {
  using S = QueuePairState;
  if (change == QueuePairChange::kEnd) return state == S::kError ? std::nullopt : std::optional(S::kError);
  switch (state) {
    case S::kInit:
      if (change == QueuePairChange::kConnected) return S::kRts;
      if (change == QueuePairChange::kFault) return S::kTerminate;
      if (change == QueuePairChange::kThawed) return S::kSuspended;
      return std::nullopt;
    case S::kRts:
      if (change == QueuePairChange::kDrain) return S::kSqd;
      if (change == QueuePairChange::kCarrierLost) return S::kSuspended;
      if (change == QueuePairChange::kFault) return S::kTerminate;
      return std::nullopt;
    case S::kSqd:
      if (change == QueuePairChange::kCarrierLost) return S::kSuspended;
      if (change == QueuePairChange::kFault) return S::kTerminate;
      return std::nullopt;
    case S::kSuspended:
      if (change == QueuePairChange::kCarrierRestored) return S::kRts;
      return std::nullopt;
    case S::kTerminate:
    case S::kError:
      return std::nullopt;
  }
  return std::nullopt;
}

// "INIT", "RTS", "SQD", "SUSPENDED", "TERMINATE", "ERROR"
constexpr const char* to_string(QueuePairState state) {
  constexpr const char* kNames[] = {"INIT", "RTS", "SQD", "SUSPENDED", "TERMINATE", "ERROR"};
  return kNames[static_cast<uint8_t>(state)];
}

}  // namespace rdma_migrate::fabric
