// How long a NativeMapping stays mapped: until close() was asked for and the last pending operation has
// ended.
#pragma once

#include <napi.h>

#include <memory>
#include <utility>
#include <vector>

#include "bindings/async.h"
#include "memory/mapping.h"
#include "memory/range.h"

namespace rdma_migrate::bindings {

// JavaScript thread only, except cancel_flag().
class MappingOwner : public std::enable_shared_from_this<MappingOwner> {
 public:
  // Keeps the mapping for one operation. Destroyed on the JavaScript thread.
  class Lease {
   public:
    explicit Lease(std::shared_ptr<MappingOwner> owner) : owner_(std::move(owner)) { ++owner_->leases_; }
    Lease(Lease&&) noexcept = default;
    Lease& operator=(Lease&&) = delete;
    ~Lease() {
      if (owner_) owner_->lease_ended();
    }

   private:
    std::shared_ptr<MappingOwner> owner_;
  };

  MappingOwner(Napi::Env env, std::shared_ptr<memory::Mapping> mapping)
      : env_(env), mapping_(std::move(mapping)) {}

  // Throws Error("CLOSED") once close() was called.
  Lease lease();
  const std::shared_ptr<memory::Mapping>& mapping() const;
  const std::shared_ptr<memory::CancelFlag>& cancel_flag() const { return cancel_; }

  // Refuses new operations, cancels those that can be and unmaps after the last one, on a thread of the
  // pool. Resolves then.
  Napi::Promise close();

 private:
  void lease_ended();
  void unmap();

  Napi::Env env_;
  std::shared_ptr<memory::Mapping> mapping_;
  std::shared_ptr<memory::CancelFlag> cancel_ = std::make_shared<memory::CancelFlag>(false);
  size_t leases_ = 0;
  bool closing_ = false;
  bool unmapped_ = false;
  std::vector<Napi::Promise::Deferred> waiting_;
};

// Runs work(mapping, cancel) on a thread of the pool under a lease. The job has no reference of its own: the
// last one must be dropped by unmap() and not by a job that is being deleted on the JavaScript thread.
template <typename Work, typename Convert>
Napi::Promise run_on_mapping(Napi::Env env, WorkLane lane, const std::shared_ptr<MappingOwner>& owner,
                             Work work, Convert convert) {
  return run_async(
      env, lane,
      [mapping = owner->mapping().get(), cancel = owner->cancel_flag(), work = std::move(work)] {
        return work(*mapping, cancel.get());
      },
      [lease = owner->lease(), convert = std::move(convert)](Napi::Env js, auto&&... result) -> Napi::Value {
        return convert(js, std::forward<decltype(result)>(result)...);
      });
}

}  // namespace rdma_migrate::bindings
