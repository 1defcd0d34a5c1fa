// What lib/native/transport.ts declares about RDMA devices.
#pragma once

#include <napi.h>

#include <memory>

#include "fabric/device_provider.h"

namespace rdma_migrate::bindings {

// The verbs provider, loaded at the first call. Throws Error: PROVIDER_UNAVAILABLE; a later call tries again.
std::shared_ptr<fabric::DeviceProvider> device_provider();

void init_devices(Napi::Env env, Napi::Object exports);

}  // namespace rdma_migrate::bindings
