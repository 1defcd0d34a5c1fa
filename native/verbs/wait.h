// Waiting with a deadline, interruptible by close(); and looking up names that way.
#pragma once

#include <atomic>
#include <optional>
#include <vector>

#include "fabric/address.h"
#include "fd.h"
#include "verbs/cm_id.h"

namespace rdma_migrate::verbs {

// Thrown inside a connection's thread when close() has asked it to end.
struct Stopped {};

struct Cancel {
  WakeEvent& wake;
  const std::atomic<bool>& stopping;
  Clock::time_point deadline;
};

// For poll(), rounded up so that a wait does not end before its deadline and spin.
int poll_timeout(Clock::time_point deadline);

// False: the deadline has passed. Throws Stopped.
bool wait_readable(int fd, const Cancel& cancel);

// The next event of id. Nothing at the deadline. Throws Stopped.
std::optional<CmEvent> wait_event(CmId& id, const Cancel& cancel);

// Throws Stopped and Error: ADDRESS_NOT_FOUND, TIMEOUT.
std::vector<fabric::SocketAddress> look_up(const fabric::Endpoint& endpoint, const Cancel& cancel,
                                           fabric::Lookup lookup = fabric::Lookup::kActive);

}  // namespace rdma_migrate::verbs
