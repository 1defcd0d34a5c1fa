#include "verbs/domain.h"

#include <optional>

#include "verbs/connection_request.h"
#include "verbs/queue_pair.h"

namespace rdma_migrate::verbs {

std::shared_ptr<DomainCore> Domain::core() {
  std::lock_guard lock(mutex_);
  if (!core_) core_ = std::make_shared<DomainCore>(regions_);
  return core_;
}

std::unique_ptr<fabric::QueuePair> Domain::create_queue_pair(const fabric::QueuePairOptions& options,
                                                             fabric::QueuePairEvents& events) {
  return std::make_unique<QueuePair>(core(), options, events);
}

void Domain::bind(const fabric::ConnectionRequest& request) {
  const auto* const own = dynamic_cast<const ConnectionRequest*>(&request);
  if (own == nullptr) throw Error("INVALID_ARGUMENT", "bind() to a request that came over another provider");
  const std::shared_ptr<DomainCore> of = core();
  std::optional<Error> failure;
  of->processor().call([&] {
    try {
      of->device_for(own->id());
    } catch (const Error& error) {
      failure = error;
    } catch (const std::exception& error) {
      failure = Error("RESOURCE_LIMIT", std::string("cannot use the request's device: ") + error.what());
    }
  });
  if (failure) throw *failure;
}

}  // namespace rdma_migrate::verbs
