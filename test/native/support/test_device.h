// The device of the test VM, for tests that need one.
#pragma once

#include <doctest/doctest.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "support/providers.h"

namespace rdma_migrate::test {

// "rxe", "siw"; "" outside the test VM.
inline std::string device_kind() {
  return tests_provider("verbs") ? environment("RDMA_MIGRATE_VM_DEVICE", "") : "";
}

inline bool unavailable() {
  if (device_kind() != "" && device_kind() != "none") return false;
  MESSAGE("not run: needs the test VM: RDMA_MIGRATE_PROVIDER=verbs npm run vm -- --device rxe COMMAND");
  return true;
}

inline void run(const std::string& command) { REQUIRE(std::system(command.c_str()) == 0); }

inline std::unique_ptr<fabric::DeviceProvider> device_provider() {
  return fabric::load_device_provider(RDMA_MIGRATE_PLUGIN_FOLDER);
}

}  // namespace rdma_migrate::test
