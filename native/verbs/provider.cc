// The one symbol that this shared object exports, and the provider behind it. Stateless: domains and
// listeners may outlive it.
#include <algorithm>
#include <cstring>

#include "fabric/device_provider.h"
#include "verbs/devices.h"
#include "verbs/domain.h"
#include "verbs/listener.h"
#include "verbs/proof.h"
#include "verbs/reach.h"

namespace rdma_migrate::verbs {
namespace {

class VerbsProvider final : public fabric::DeviceProvider {
 public:
  std::string name() const override { return "verbs"; }
  std::unique_ptr<fabric::Domain> open_domain() override { return std::make_unique<Domain>(); }
  std::unique_ptr<fabric::Listener> listen(const fabric::Endpoint& endpoint,
                                           const fabric::QueuePairOptions& options,
                                           fabric::ListenerCallbacks callbacks) override {
    return std::make_unique<Listener>(endpoint, options, std::move(callbacks));
  }
  std::vector<fabric::Device> devices() override { return list_devices(); }
  fabric::Reach reach(const fabric::Endpoint& endpoint, fabric::Direction direction,
                      std::chrono::milliseconds timeout) override {
    return find_device(endpoint, direction, timeout);
  }
  fabric::Proof prove(const std::string& device, std::chrono::milliseconds timeout) override {
    const std::vector<fabric::Device> all = list_devices();
    const auto found =
        std::find_if(all.begin(), all.end(), [&](const fabric::Device& each) { return each.name == device; });
    fabric::Proof proof;
    if (found == all.end()) {
      proof.message = "there is no RDMA device " + device;
    } else if (found->addresses.empty()) {
      proof.message = found->problem.empty()
                          ? "no interface of " + device + " has an address; give it one (ip address add)"
                          : found->problem;
    } else {
      proof = prove_loopback(*this, found->addresses.front(), timeout);
    }
    return proof;
  }
};

}  // namespace
}  // namespace rdma_migrate::verbs

extern "C" __attribute__((visibility("default"))) rdma_migrate::fabric::DeviceProvider*
rdma_migrate_device_provider(const char* loader_mark, const char** own_mark) {
  *own_mark = RDMA_MIGRATE_PLUGIN_MARK;
  if (std::strcmp(loader_mark, RDMA_MIGRATE_PLUGIN_MARK) != 0) return nullptr;
  return new rdma_migrate::verbs::VerbsProvider();
}
