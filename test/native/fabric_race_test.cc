// Closing while others post, look names up or come: no thread may meet what is gone. Whatever the provider.
#include <doctest/doctest.h>

#include <atomic>
#include <thread>

#include "support/providers.h"
#include "support/traffic.h"

using namespace rdma_migrate;
using namespace rdma_migrate::test;

TEST_CASE("posts and notifications from other threads while a queue pair closes and after it do no harm") {
  for_each_provider([](fabric::Provider& provider, const fabric::QueuePairOptions& options) {
    for (int round = 0; round < 50; ++round) {
      Traffic traffic(4096);
      Pair pair(provider, {options, options, test_host(), {}, {}, traffic.prepare()});
      std::atomic<bool> stopping{false};
      std::thread poster([&] {
        while (!stopping.load()) {
          pair.active->notify();
          try {
            pair.active->post_send(traffic.write(1));
          } catch (const Error& error) {
            CHECK(error.code() == "CONNECTION_CLOSED");
          }
        }
      });
      pair.active_events.wait_sends(1);
      if (round % 2 == 0) pair.active->disconnect();
      pair.active->close();
      stopping = true;
      poster.join();
      pair.active->notify();
      pair.active->disconnect();
      CHECK(pair.active_events.closed() == 1);
      CHECK(pair.active_events.late_events() == 0);
      pair.active.reset();
    }
  });
}

TEST_CASE("an address that refuses is followed by the next one of its name") {
  for_each_provider([](fabric::Provider& provider, const fabric::QueuePairOptions& options) {
    if (!is_software(provider)) return skip(provider, "no device has localhost");
    // Most hosts have ::1 under that name too, and first.
    Acceptor acceptor(provider, options, "127.0.0.1");
    const DomainPointer domain = open_domain(provider);
    Recorder active_events, passive_events;
    const auto active = domain->create_queue_pair(options, active_events);
    const auto passive = domain->create_queue_pair(options, passive_events);
    active->connect({"localhost", acceptor.listener().port()}, {});
    passive->accept(acceptor.next(), {}, true);
    active_events.wait_established();
    CHECK(active->info().peer_address.starts_with("127.0.0.1:"));
    active->close();
    passive->close();
  });
}

TEST_CASE("a queue pair closes at once while the name of its peer is being looked up") {
  for_each_provider([](fabric::Provider& provider, const fabric::QueuePairOptions& options) {
    const DomainPointer domain = open_domain(provider);
    for (int round = 0; round < 20; ++round) {
      Recorder events;
      const auto queue_pair = domain->create_queue_pair(options, events);
      queue_pair->connect({"no-such-host.invalid", 4444}, {});
      queue_pair->close();
      CHECK(events.closed() == 1);
    }
  });
}

TEST_CASE("a listener that closes under a storm of peers calls nobody afterwards") {
  for_each_provider([](fabric::Provider& provider, const fabric::QueuePairOptions& options) {
    const DomainPointer domain = open_domain(provider);
    for (int round = 0; round < 10; ++round) {
      std::atomic<int> calls{0};
      const auto listener = provider.listen({test_host(), 0}, options, {.request = [&](auto) { ++calls; }});
      const fabric::Endpoint endpoint{test_host(), listener->port()};
      std::vector<std::unique_ptr<Recorder>> events;
      std::vector<std::unique_ptr<fabric::QueuePair>> peers;
      for (int count = 0; count < 20; ++count) {
        events.push_back(std::make_unique<Recorder>());
        peers.push_back(domain->create_queue_pair(options, *events.back()));
        peers.back()->connect(endpoint, {});
      }
      listener->close();
      const int at_close = calls;
      for (const auto& each : events) each->wait_closed();
      CHECK(calls == at_close);
    }
  });
}
