#include "iwarp/provider.h"

#include "iwarp/domain.h"
#include "iwarp/listener.h"

namespace rdma_migrate::iwarp {
namespace {

class IwarpProvider final : public fabric::Provider {
 public:
  std::string name() const override { return "iwarp"; }
  std::unique_ptr<fabric::Domain> open_domain() override {
    return std::make_unique<Domain>(Engine::shared());
  }
  std::unique_ptr<fabric::Listener> listen(const fabric::Endpoint& endpoint,
                                           const fabric::QueuePairOptions& options,
                                           fabric::ListenerCallbacks callbacks) override {
    return std::make_unique<Listener>(endpoint, options, std::move(callbacks));
  }
};

}  // namespace

std::unique_ptr<fabric::Provider> make_provider() { return std::make_unique<IwarpProvider>(); }

}  // namespace rdma_migrate::iwarp
