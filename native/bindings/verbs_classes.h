// The classes of `rdma-migrate/verbs` in one environment, defined once in each, and what several of them
// hold.
#pragma once

#include <napi.h>

#include <memory>

#include "fabric/fabric.h"

namespace rdma_migrate::bindings {

struct VerbsClasses {
  Napi::FunctionReference domain;
  Napi::FunctionReference region;
  Napi::FunctionReference queue_pair;
};
using SharedVerbsClasses = std::shared_ptr<const VerbsClasses>;

// Held by every region and queue pair of the domain, so that it goes after them, and its provider after it.
struct OpenDomain {
  std::shared_ptr<fabric::Provider> provider;
  std::unique_ptr<fabric::Domain> domain;
};

}  // namespace rdma_migrate::bindings
