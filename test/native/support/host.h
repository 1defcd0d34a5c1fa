// Where the suite connects to: an RDMA device needs an address of its network, the software RNIC takes any.
#pragma once

#include <cstdlib>
#include <sstream>
#include <string>

namespace rdma_migrate::test {

inline std::string environment(const char* name, const std::string& otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr || *value == '\0' ? otherwise : value;
}

// "iwarp", "verbs" or "iwarp,verbs".
inline std::string tested_providers() { return environment("RDMA_MIGRATE_PROVIDER", "iwarp"); }
inline bool tests_provider(const std::string& name) {
  std::istringstream names(tested_providers());
  for (std::string each; std::getline(names, each, ',');) {
    if (each == name) return true;
  }
  return false;
}

// In the test VM, the address of its device.
inline std::string test_host() {
  return environment("RDMA_MIGRATE_TEST_HOST", tests_provider("verbs")
                                                   ? environment("RDMA_MIGRATE_VM_ADDRESS", "127.0.0.1")
                                                   : "127.0.0.1");
}

}  // namespace rdma_migrate::test
