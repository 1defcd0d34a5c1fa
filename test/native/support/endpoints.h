// Two connected endpoints of the software RNIC in this process, with their writers.
#pragma once

#include "engine/endpoint.h"
#include "iwarp/provider.h"
#include "support/pair.h"

namespace rdma_migrate::test {

class EndpointWatcher final : public engine::EndpointObserver {
 public:
  void established(fabric::Bytes) override { happened(established_); }
  void message_arrived() override { happened(messages_); }
  void message_sent(uint64_t, bool) override {}
  void closed(std::optional<Error>) override { happened(closed_); }
  void wait_established() { wait(established_); }
  void wait_message() { wait(messages_); }

 private:
  void happened(int& what) {
    std::lock_guard lock(mutex_);
    ++what;
    changed_.notify_all();
  }
  void wait(const int& what) {
    std::unique_lock lock(mutex_);
    REQUIRE(changed_.wait_for(lock, std::chrono::seconds(60), [&] { return what > 0 || closed_ > 0; }));
    REQUIRE(what > 0);
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  int established_ = 0, messages_ = 0, closed_ = 0;
};

struct EndpointPair {
  explicit EndpointPair(const fabric::ConnectionOptions& options = {}) {
    const auto provider = iwarp::make_provider();
    Acceptor acceptor(*provider, options);
    source = std::make_unique<engine::Endpoint>(
        [&](fabric::ConnectionEvents& events) {
          return provider->connect_to(acceptor.endpoint(), options, events);
        },
        options.max_send_wr, source_events);
    source->connection().connect({});
    const auto request = acceptor.next();
    destination = std::make_unique<engine::Endpoint>(
        [&](fabric::ConnectionEvents& events) { return request->take(options, events); }, options.max_send_wr,
        destination_events);
    destination->connection().accept({});
    source_events.wait_established();
    destination_events.wait_established();
  }
  ~EndpointPair() {
    source->close();
    destination->close();
  }
  // Everything written so far has been placed when this returns. Once.
  void sync() {
    const uint8_t byte = 1;
    REQUIRE(source->send({&byte, 1}, 1));
    destination_events.wait_message();
  }

  EndpointWatcher source_events, destination_events;
  std::unique_ptr<engine::Endpoint> source, destination;
};

}  // namespace rdma_migrate::test
