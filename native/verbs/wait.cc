#include "verbs/wait.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <climits>

#include "fabric/resolver.h"
#include "fd.h"

namespace rdma_migrate::verbs {

int poll_timeout(Clock::time_point deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, INT_MAX));
}

bool wait_readable(int fd, Clock::time_point deadline) {
  for (;;) {
    pollfd entry{fd, POLLIN, 0};
    const int ready = poll(&entry, 1, poll_timeout(deadline));
    if (ready < 0 && errno != EINTR) throw Error("INTERNAL", "poll failed", errno);
    if (ready >= 0) return ready > 0;
  }
}

Error lookup_timeout(const std::string& host) {
  return Error("TIMEOUT", "the name service did not find '" + host + "' in time; try a numeric address");
}

std::vector<fabric::SocketAddress> look_up(const fabric::Endpoint& endpoint, fabric::Direction direction,
                                           Clock::time_point deadline) {
  // Only an empty host means something else for listening, and nobody has to be asked for it.
  if (endpoint.host.empty() && direction == fabric::Direction::kListen)
    return fabric::resolve(endpoint, fabric::Lookup::kPassive);
  WakeEvent finished;
  const fabric::Resolution resolution(endpoint, [&finished] { finished.signal(); });
  for (;;) {
    if (const auto addresses = resolution.result()) return *addresses;
    if (!wait_readable(finished.fd(), deadline)) throw lookup_timeout(endpoint.host);
    finished.drain();
  }
}

}  // namespace rdma_migrate::verbs
