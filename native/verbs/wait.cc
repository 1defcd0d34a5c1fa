#include "verbs/wait.h"

#include <poll.h>

#include <algorithm>
#include <climits>
#include <mutex>
#include <thread>

#include "thread.h"

namespace rdma_migrate::verbs {
namespace {

using fabric::SocketAddress;

// A resolver may hang for longer than anybody waits: its thread is left alone with what it needs.
struct Resolution {
  fabric::Endpoint endpoint;
  fabric::Lookup lookup = fabric::Lookup::kActive;
  WakeEvent finished;
  std::mutex mutex;
  std::vector<SocketAddress> addresses;
  std::optional<Error> error;

  void run() {
    std::vector<SocketAddress> found;
    std::optional<Error> failure;
    try {
      found = fabric::resolve(endpoint, lookup);
    } catch (const Error& caught) {
      failure = caught;
    }
    std::lock_guard lock(mutex);
    addresses = std::move(found);
    error = std::move(failure);
    finished.signal();
  }
};

}  // namespace

int poll_timeout(Clock::time_point deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, INT_MAX));
}

bool wait_readable(int fd, const Cancel& cancel) {
  for (;;) {
    pollfd entries[2] = {{cancel.wake.fd(), POLLIN, 0}, {fd, POLLIN, 0}};
    if (cancel.stopping.load()) throw Stopped{};
    const int ready = poll(entries, 2, poll_timeout(cancel.deadline));
    if (cancel.stopping.load()) throw Stopped{};
    if (ready < 0 && errno != EINTR) throw Error("INTERNAL", "poll failed", errno);
    if (ready == 0) return false;
    if (ready > 0 && entries[1].revents != 0) return true;
    if (ready > 0) cancel.wake.drain();
  }
}

std::optional<CmEvent> wait_event(CmId& id, const Cancel& cancel) {
  for (;;) {
    if (std::optional<CmEvent> event = id.next_event()) return event;
    if (!wait_readable(id.fd(), cancel)) return std::nullopt;
  }
}

std::vector<SocketAddress> look_up(const fabric::Endpoint& endpoint, const Cancel& cancel,
                                   fabric::Lookup lookup) {
  if (endpoint.host.empty()) return fabric::resolve(endpoint, lookup);  // nobody has to be asked
  std::vector<SocketAddress> numeric = fabric::resolve(endpoint, fabric::Lookup::kNumericOnly);
  if (!numeric.empty()) return numeric;
  auto resolution = std::make_shared<Resolution>();
  resolution->endpoint = endpoint;
  resolution->lookup = lookup;
  start_thread([resolution] { resolution->run(); }).detach();
  if (!wait_readable(resolution->finished.fd(), cancel)) {
    throw Error("TIMEOUT",
                "the name service did not find '" + endpoint.host + "' in time; try a numeric address");
  }
  std::lock_guard lock(resolution->mutex);
  if (resolution->error) throw *resolution->error;
  return resolution->addresses;
}

}  // namespace rdma_migrate::verbs
