// Finds the verbs provider at run time, so that one build serves machines with and without rdma-core.
#pragma once

#include <memory>
#include <string>

#include "fabric/device_provider.h"

namespace rdma_migrate::fabric {

// What a loaded plugin lacks to run: how to get it.
inline constexpr const char* kRdmaCorePackages =
    "apt-get install rdma-core libibverbs1 librdmacm1 ibverbs-providers";
inline constexpr const char* kVerbsPlugin = "rdma_migrate_verbs.so";

// PROVIDER_UNAVAILABLE in two parts; what() has both.
class PluginError : public Error {
 public:
  PluginError(std::string reason, std::string remedy);
  // One clause: why the provider does not load.
  const std::string& reason() const noexcept { return reason_; }
  // One clause: the command that mends it.
  const std::string& remedy() const noexcept { return remedy_; }

 private:
  std::string reason_;
  std::string remedy_;
};

// The folder of the binary that this code is linked into; "" if the system does not tell.
std::string own_folder();

// Loads folder/rdma_migrate_verbs.so and makes its provider. The library stays loaded for the life of the
// process. Throws PluginError with the loader's reason and what to install, or `build`: the command that
// builds the addon.
std::unique_ptr<DeviceProvider> load_device_provider(const std::string& folder,
                                                     const std::string& build = "npm run build:native");

}  // namespace rdma_migrate::fabric
