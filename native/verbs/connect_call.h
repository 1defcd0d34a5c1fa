// rdma_connect() may take minutes: siw's connects its TCP socket in it. It runs on a thread of its own, which
// is left alone with what it needs when nobody waits any more.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "fabric/types.h"
#include "verbs/device_queue_pair.h"

namespace rdma_migrate::verbs {

class ConnectCall {
 public:
  // done: called once, on that thread, and never after this object is gone; it must not wait. parameters'
  // private data is replaced by a copy. Throws Error: RESOURCE_LIMIT.
  ConnectCall(std::shared_ptr<DeviceQueuePair> queue_pair, const rdma_conn_param& parameters,
              std::function<void()> done);
  ~ConnectCall();
  ConnectCall(const ConnectCall&) = delete;

  // 0 or an errno; nothing while it runs.
  std::optional<int> result() const;

 private:
  struct State;
  const std::shared_ptr<State> state_;
};

}  // namespace rdma_migrate::verbs
