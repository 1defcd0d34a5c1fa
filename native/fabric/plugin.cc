#include "fabric/plugin.h"

#include <dlfcn.h>
#include <unistd.h>

namespace rdma_migrate::fabric {
namespace {

[[noreturn]] void not_built(const std::string& path, const std::string& build) {
  throw PluginError("there is no " + path + ", it is built only where rdma-core's headers are",
                    "apt-get install libibverbs-dev librdmacm-dev, then build again: " + build);
}

}  // namespace

PluginError::PluginError(std::string reason, std::string remedy)
    : Error("PROVIDER_UNAVAILABLE", "the verbs provider is not available: " + reason + "; " + remedy +
                                        ", or use provider iwarp, which needs no RDMA device"),
      reason_(std::move(reason)),
      remedy_(std::move(remedy)) {}

std::string own_folder() {
  Dl_info info{};
  if (dladdr(reinterpret_cast<void*>(&own_folder), &info) == 0 || info.dli_fname == nullptr) return "";
  const std::string path = info.dli_fname;
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

std::unique_ptr<DeviceProvider> load_device_provider(const std::string& folder, const std::string& build) {
  const std::string path = folder + "/" + kVerbsPlugin;
  if (access(path.c_str(), F_OK) != 0) not_built(path, build);
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (library == nullptr) {
    const char* reason = dlerror();
    throw PluginError(reason == nullptr ? path + " does not load" : reason, kRdmaCorePackages);
  }
  auto make = reinterpret_cast<MakeDeviceProvider>(dlsym(library, kDevicePluginSymbol));
  const char* mark = "unknown";
  DeviceProvider* provider = make == nullptr ? nullptr : make(RDMA_MIGRATE_PLUGIN_MARK, &mark);
  if (provider == nullptr) {
    throw PluginError(path + " is of another build (" + mark + ", expected " + RDMA_MIGRATE_PLUGIN_MARK + ")",
                      "build again: " + build);
  }
  return std::unique_ptr<DeviceProvider>(provider);
}

}  // namespace rdma_migrate::fabric
