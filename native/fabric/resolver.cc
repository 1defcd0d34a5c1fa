#include "fabric/resolver.h"

#include "pinned_module.h"
#include "thread.h"

namespace rdma_migrate::fabric {

struct Resolution::State {
  std::mutex mutex;
  std::function<void()> done;  // empty: nobody waits any more
  std::optional<std::vector<SocketAddress>> addresses;
  std::optional<Error> error;

  void run(const Endpoint& endpoint) {
    std::optional<std::vector<SocketAddress>> found;
    std::optional<Error> failure;
    try {
      found = resolve(endpoint, Lookup::kActive);
    } catch (const Error& caught) {
      failure = caught;
    } catch (const std::exception& caught) {
      failure = Error("INTERNAL", "the look-up of '" + endpoint.host + "' failed: " + caught.what());
    }
    std::lock_guard lock(mutex);
    addresses = std::move(found);
    error = std::move(failure);
    if (done) done();
  }
};

Resolution::Resolution(const Endpoint& endpoint, std::function<void()> done)
    : state_(std::make_shared<State>()) {
  std::vector<SocketAddress> numeric = resolve(endpoint, Lookup::kNumericOnly);
  if (!numeric.empty()) {
    state_->addresses = std::move(numeric);
    return;
  }
  state_->done = std::move(done);
  // The thread may outlive whoever loaded this module.
  pin_module();
  start_thread([state = state_, endpoint] { state->run(endpoint); }).detach();
}

Resolution::~Resolution() {
  std::lock_guard lock(state_->mutex);
  state_->done = nullptr;
}

std::optional<std::vector<SocketAddress>> Resolution::result() const {
  std::lock_guard lock(state_->mutex);
  if (state_->error) throw *state_->error;
  return state_->addresses;
}

}  // namespace rdma_migrate::fabric
