#include "verbs/connect_call.h"

#include <cerrno>
#include <mutex>

#include "thread.h"

namespace rdma_migrate::verbs {

struct ConnectCall::State {
  std::shared_ptr<DeviceQueuePair> queue_pair;  // the thread's
  fabric::Bytes private_data;
  rdma_conn_param parameters{};
  std::mutex mutex;            // what follows
  std::function<void()> done;  // empty: nobody waits any more
  std::optional<int> result;

  void run() {
    const int error_number = rdma_connect(queue_pair->id().get(), &parameters) == 0 ? 0 : errno;
    {
      std::lock_guard lock(mutex);
      result = error_number;
      if (done) done();
    }
    // Maybe the last share: who gave the call up waits for nothing.
    queue_pair.reset();
  }
};

ConnectCall::ConnectCall(std::shared_ptr<DeviceQueuePair> queue_pair, const rdma_conn_param& parameters,
                         std::function<void()> done)
    : state_(std::make_shared<State>()) {
  const auto* data = static_cast<const uint8_t*>(parameters.private_data);
  state_->private_data.assign(data, data + parameters.private_data_len);
  state_->parameters = parameters;
  state_->parameters.private_data = state_->private_data.data();
  state_->queue_pair = std::move(queue_pair);
  state_->done = std::move(done);
  start_thread([state = state_] { state->run(); }).detach();
}

ConnectCall::~ConnectCall() {
  std::lock_guard lock(state_->mutex);
  state_->done = nullptr;
}

std::optional<int> ConnectCall::result() const {
  std::lock_guard lock(state_->mutex);
  return state_->result;
}

}  // namespace rdma_migrate::verbs
