// The transport's JavaScript classes of one environment. A class is defined once in each: V8 keeps every
// definition for the environment's life.
#pragma once

#include <napi.h>

#include <memory>

namespace rdma_migrate::bindings {

struct TransportClasses {
  Napi::FunctionReference connection;
  Napi::FunctionReference request;
  Napi::FunctionReference listener;
};
using SharedTransportClasses = std::shared_ptr<const TransportClasses>;

}  // namespace rdma_migrate::bindings
