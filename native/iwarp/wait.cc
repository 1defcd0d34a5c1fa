#include "iwarp/wait.h"

#include <algorithm>
#include <climits>

namespace rdma_migrate::iwarp {
namespace {

int poll_timeout(std::optional<Clock::time_point> deadline) {
  if (!deadline) return -1;
  // Rounded up: a wait must not end before its deadline and spin.
  auto left = std::chrono::ceil<std::chrono::milliseconds>(*deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, INT_MAX));
}

}  // namespace

Waited wait_for(int fd, short events, WakeEvent& wake, const std::atomic<bool>& stopping,
                std::optional<Clock::time_point> deadline) {
  pollfd entries[2] = {{wake.fd(), POLLIN, 0}, {fd, events, 0}};
  for (;;) {
    if (stopping.load()) throw Stopped{};
    int ready = poll(entries, 2, poll_timeout(deadline));
    if (ready < 0 && errno == EINTR) continue;
    if (ready < 0) throw Error("INTERNAL", "poll failed", errno);
    if (stopping.load()) throw Stopped{};
    if ((entries[0].revents & POLLIN) != 0) {
      wake.drain();
      return Waited::kWoken;
    }
    if (ready == 0) return Waited::kTimeout;
    return Waited::kReady;
  }
}

}  // namespace rdma_migrate::iwarp
