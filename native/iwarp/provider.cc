#include "iwarp/provider.h"

#include "iwarp/connection.h"
#include "iwarp/listener.h"

namespace rdma_migrate::iwarp {
namespace {

class IwarpProvider final : public fabric::Provider {
 public:
  std::string name() const override { return "iwarp"; }
  std::unique_ptr<fabric::Listener> listen(const fabric::Endpoint& endpoint,
                                           const fabric::ConnectionOptions& options,
                                           fabric::ListenerCallbacks callbacks) override {
    return std::make_unique<Listener>(endpoint, options, std::move(callbacks.request),
                                      std::move(callbacks.stranger));
  }
  std::unique_ptr<fabric::Connection> connect_to(const fabric::Endpoint& endpoint,
                                                 const fabric::ConnectionOptions& options,
                                                 fabric::ConnectionEvents& events) override {
    return std::make_unique<Connection>(endpoint, options, events);
  }
};

}  // namespace

std::unique_ptr<fabric::Provider> make_provider() { return std::make_unique<IwarpProvider>(); }

}  // namespace rdma_migrate::iwarp
