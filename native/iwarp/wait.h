// Waiting for a socket with a deadline, interruptible by close().
#pragma once

#include <poll.h>

#include <atomic>
#include <optional>

#include "iwarp/link.h"

namespace rdma_migrate::iwarp {

enum class Waited { kReady, kWoken, kTimeout };

// Waits for events on fd, for wake, or for the deadline (none: for ever). wake is drained when it was
// signaled. Throws Stopped when stopping is set. fd may be -1: only wake and deadline.
Waited wait_for(int fd, short events, WakeEvent& wake, const std::atomic<bool>& stopping,
                std::optional<Clock::time_point> deadline);

}  // namespace rdma_migrate::iwarp
