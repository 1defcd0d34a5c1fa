#include "bindings/memory_lease.h"

namespace rdma_migrate::bindings {

MappingOwner::Lease MappingOwner::lease() {
  mapping();
  return Lease(shared_from_this());
}

const std::shared_ptr<memory::Mapping>& MappingOwner::mapping() const {
  if (closing_) throw Error("CLOSED", "the mapping has been closed");
  return mapping_;
}

Napi::Promise MappingOwner::close() {
  const auto deferred = Napi::Promise::Deferred::New(env_);
  if (unmapped_) {
    deferred.Resolve(env_.Undefined());
    return deferred.Promise();
  }
  waiting_.push_back(deferred);
  if (!closing_) {
    closing_ = true;
    cancel_->store(true, std::memory_order_relaxed);
    if (leases_ == 0) unmap();
  }
  return deferred.Promise();
}

void MappingOwner::lease_ended() {
  if (--leases_ > 0 || !closing_) return;
  try {
    const Napi::HandleScope scope(env_);
    unmap();
  } catch (const Napi::Error&) {
    // The environment is being torn down. The mapping went with the job that could not be started.
  }
}

void MappingOwner::unmap() {
  run_anyway(
      env_, WorkLane::kBulk, [mapping = std::move(mapping_)]() mutable { mapping.reset(); },
      [self = shared_from_this()](Napi::Env env) -> Napi::Value {
        self->unmapped_ = true;
        for (const auto& deferred : self->waiting_) deferred.Resolve(env.Undefined());
        self->waiting_.clear();
        return env.Undefined();
      });
}

}  // namespace rdma_migrate::bindings
