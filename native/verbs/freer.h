// Owners of libibverbs' objects.
#pragma once

#include <infiniband/verbs.h>

#include <memory>

namespace rdma_migrate::verbs {

template <auto Free>
struct Freer {
  template <typename T>
  void operator()(T* object) const {
    Free(object);
  }
};

using ProtectionDomain = std::unique_ptr<ibv_pd, Freer<ibv_dealloc_pd>>;
using CompletionChannel = std::unique_ptr<ibv_comp_channel, Freer<ibv_destroy_comp_channel>>;
using CompletionQueue = std::unique_ptr<ibv_cq, Freer<ibv_destroy_cq>>;
using MemoryRegistration = std::unique_ptr<ibv_mr, Freer<ibv_dereg_mr>>;

}  // namespace rdma_migrate::verbs
