// How connections end, whatever the provider: in order, by the peer's death, by close() at any moment.
// Nothing may hang, leak or come after on_closed.
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <random>
#include <utility>

#include "fd.h"
#include "support/child_process.h"
#include "support/process_entries.h"
#include "support/providers.h"
#include "support/traffic.h"

using namespace rdma_migrate;
using namespace rdma_migrate::test;
using fabric::Opcode;
using fabric::Status;

namespace {}  // namespace

// The first one here: a look-up of a name that nobody waits for any more ends in its own time.
TEST_CASE("200 connections opened and closed leave no descriptor and no thread") {
  for (std::unique_ptr<fabric::Provider>& provider : providers_under_test()) {
    auto cycle = [&] {
      Traffic traffic(4096);
      Pair pair(*provider, {{}, {}, test_host(), {}, {}, traffic.prepare()});
      REQUIRE(pair.active->post_send(traffic.write(1)));
      pair.active_events.wait_sends(1);
    };
    cycle();
    // On a device the kernel lets go of them in its own time.
    const bool at_once = is_software(*provider);
    size_t before = descriptors();
    for (int pause = 0; !at_once && pause < 20; ++pause) {
      usleep(500'000);
      const size_t last = std::exchange(before, descriptors());
      if (before == last) break;
    }
    const size_t threads_before = threads();
    for (int round = 0; round < 200; ++round) cycle();
    for (int pause = 0; !at_once && pause < 500 && descriptors() > before; ++pause) usleep(10'000);
    const size_t left = descriptors();
    CAPTURE(left);
    CHECK((at_once ? left == before : left <= before));
    for (int pause = 0; pause < 500 && threads() > threads_before; ++pause) usleep(10'000);
    CHECK(threads() <= threads_before);
  }
}

TEST_CASE("disconnect sends what was posted, then ends both sides in order") {
  for_each_provider([](fabric::Provider& provider, const fabric::QueuePairOptions& options) {
    constexpr size_t kWrites = 40;
    Traffic traffic(1 << 20);
    Pair pair(provider, {options, options, test_host(), {}, {}, traffic.prepare()});
    for (size_t index = 0; index < kWrites; ++index) REQUIRE(pair.active->post_send(traffic.write(index)));
    REQUIRE(pair.active->post_send(send_of(*traffic.source, 64, 1000)));
    pair.active->disconnect();
    pair.active->disconnect();
    CHECK_THROWS_AS(pair.active->post_send(traffic.write(0)), Error);
    pair.active_events.wait_closed();
    pair.passive_events.wait_closed();
    CHECK(pair.active_events.reason_text() == "an orderly end");
    CHECK(pair.passive_events.reason_text() == "an orderly end");
    CHECK(pair.passive_events.recvs().size() == 1);
    if (is_software(provider)) CHECK(pair.passive->counters().write_bytes_placed == kWrites << 20);
    std::vector<fabric::Completion> sends = pair.active_events.sends();
    REQUIRE(sends.size() == kWrites + 1);
    for (const fabric::Completion& completion : sends) CHECK(completion.status == Status::kSuccess);
    pair.close();
    CHECK(pair.active_events.closed() == 1);
  });
}

TEST_CASE("posted requests are flushed before on_closed") {
  for_each_provider([](fabric::Provider& provider, const fabric::QueuePairOptions& options) {
    Traffic traffic(8 << 20);
    Pair pair(provider, {options, options, test_host(), {}, {}, traffic.prepare()});
    for (size_t index = 0; index < 100; ++index) {
      fabric::SendWorkRequest request = traffic.write(index);
      request.signaled = index == 99;
      REQUIRE(pair.active->post_send(request));
    }
    pair.close();
    CHECK(pair.active_events.closed() == 1);
    CHECK(pair.passive_events.closed() == 1);
    CHECK(pair.active_events.late_events() == 0);
    CHECK(pair.active_events.reason_code() == "");
    std::vector<fabric::Completion> sends = pair.active_events.sends();
    REQUIRE(!sends.empty());
    CHECK(sends.back().wr_id == 99);
    CHECK(sends.back().status == Status::kFlushed);
    std::vector<fabric::Completion> recvs = pair.passive_events.recvs();
    REQUIRE(recvs.size() == 1);
    CHECK(recvs[0].status == Status::kFlushed);
  });
}

TEST_CASE("deregistering under the peer's WRITEs ends the connection and never touches the memory again") {
  for_each_provider([](fabric::Provider& provider, const fabric::QueuePairOptions& options) {
    constexpr size_t kSize = 8 << 20;
    for (int round = 0; round < 5; ++round) {
      void* memory = mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      REQUIRE(memory != MAP_FAILED);
      std::unique_ptr<fabric::MemoryRegion> region;
      std::unique_ptr<Buffer> source;
      PairOptions pair_opts{options, options, test_host(), {}, {}, [&](Pair& made) {
                              source = std::make_unique<Buffer>(made.active_domain, kSize);
                              region = made.passive_domain->register_memory(
                                  reinterpret_cast<uintptr_t>(memory), kSize, kRemoteAll);
                            }};
      Pair pair(provider, pair_opts);
      const uint64_t target = region->address();
      const uint32_t rkey = region->rkey();
      for (uint64_t index = 0; index < 20; ++index)
        pair.active->post_send(rdma_of(Opcode::kRdmaWrite, *source, 0, target, rkey, kSize, index));
      if (is_software(provider)) {
        while (pair.passive->counters().write_bytes_placed == 0) std::this_thread::yield();
      } else {
        pair.active_events.wait_sends(1);
      }
      region.reset();
      // A later access would kill this process.
      REQUIRE(mprotect(memory, kSize, PROT_NONE) == 0);
      // On a busy machine all of them may have been carried out by now.
      try {
        pair.active->post_send(rdma_of(Opcode::kRdmaWrite, *source, 0, target, rkey, kSize, 20));
      } catch (const Error& error) {
        CHECK(error.code() == "CONNECTION_CLOSED");
      }
      pair.passive_events.wait_closed();
      const std::string here = pair.passive_events.reason_code();
      CAPTURE(here);
      CHECK((here == "REMOTE_ACCESS_ERROR" || (is_siw(*pair.passive) && here == "")));
      pair.active_events.wait_closed();
      pair.close();
      munmap(memory, kSize);
    }
  });
}

namespace {

constexpr size_t kOwnWrites = 20;

// Whether the region went away while WRITEs out of it were under way: all may have been carried out before.
bool deregister_under_own_writes(fabric::Provider& provider, const fabric::QueuePairOptions& options) {
  constexpr size_t kSize = 8 << 20;
  void* memory = mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  std::unique_ptr<fabric::MemoryRegion> region;
  std::unique_ptr<Buffer> target;
  PairOptions pair_opts{options, options, test_host(), {}, {}, [&](Pair& made) {
                          target = std::make_unique<Buffer>(made.passive_domain, kSize, kRemoteAll);
                          region = made.active_domain->register_memory(reinterpret_cast<uintptr_t>(memory),
                                                                       kSize, 0);
                        }};
  Pair pair(provider, pair_opts);
  fabric::SendWorkRequest request;
  request.opcode = Opcode::kRdmaWrite;
  request.address = region->address();
  request.length = kSize;
  request.lkey = region->lkey();
  request.remote_address = target->address();
  request.rkey = target->region->rkey();
  for (size_t count = 0; count < kOwnWrites; ++count) REQUIRE(pair.active->post_send(request));
  region.reset();
  REQUIRE(mprotect(memory, kSize, PROT_NONE) == 0);
  pair.active_events.wait_sends(kOwnWrites);
  const bool hit = pair.active_events.sends().back().status != Status::kSuccess;
  if (hit) {
    pair.active_events.wait_closed();
    const std::string here = pair.active_events.reason_code();
    CAPTURE(here);
    CHECK((here == "INVALID_ARGUMENT" ||
           (is_siw(*pair.active) && (here == "CONNECTION_LOST" || here == "WIRE_ERROR"))));
    CHECK(pair.active_events.sends().size() == kOwnWrites);
    pair.passive_events.wait_closed();
  }
  pair.close();
  munmap(memory, kSize);
  return hit;
}

// Bound, so that no other process can come to listen there.
class PortNobodyListensOn {
 public:
  PortNobodyListensOn() : socket_(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    socklen_t length = sizeof address;
    int off = 0;
    setsockopt(socket_.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    REQUIRE(bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), length) == 0);
    REQUIRE(getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&address), &length) == 0);
    number_ = ntohs(address.sin6_port);
  }
  uint16_t number() const { return number_; }

 private:
  UniqueFd socket_;
  uint16_t number_ = 0;
};

}  // namespace

TEST_CASE("deregistering under one's own WRITEs fails the request and never touches the memory again") {
  for_each_provider([](fabric::Provider& provider, const fabric::QueuePairOptions& options) {
    int rounds = 1;
    while (!deregister_under_own_writes(provider, options)) REQUIRE(++rounds <= 20);
  });
}

constexpr const char* kVictim = "the process that dies";
constexpr size_t kVictimMessage = 8 << 20;
constexpr size_t kVictimSends = 4;

// What the next case starts as a process of its own: it connects to the port that it is told, and takes
// messages.
TEST_CASE("the process that dies" * doctest::skip()) {
  const std::string port = environment("RDMA_MIGRATE_TEST_PORT", "");
  REQUIRE(!port.empty());
  const auto providers = providers_under_test();
  Recorder events;
  const DomainPointer domain = open_domain(*providers.at(0));
  Buffer inbox(domain, kVictimMessage);
  auto queue_pair = domain->create_queue_pair({}, events);
  events.recv_hook = [&](const fabric::Completion& completion) {
    if (completion.status == Status::kSuccess) queue_pair->post_recv(recv_of(inbox));
  };
  for (size_t count = 0; count < 2 * kVictimSends; ++count) queue_pair->post_recv(recv_of(inbox));
  queue_pair->connect({test_host(), static_cast<uint16_t>(std::stoul(port))}, {});
  pause();
}

TEST_CASE("the death of the peer's process ends the connection") {
  for (std::unique_ptr<fabric::Provider>& provider : providers_under_test()) {
    Acceptor acceptor(*provider);
    ChildProcess child(kVictim, {{"RDMA_MIGRATE_PROVIDER", provider->name()},
                                 {"RDMA_MIGRATE_TEST_HOST", test_host()},
                                 {"RDMA_MIGRATE_TEST_PORT", std::to_string(acceptor.listener().port())}});
    Recorder events;
    const DomainPointer domain = open_domain(*provider);
    Buffer outbox(domain, kVictimMessage);
    size_t posted = kVictimSends;
    auto queue_pair = domain->create_queue_pair({}, events);
    // Messages are under way whenever it dies: after each one that was taken comes another.
    events.send_hook = [&](const fabric::Completion& completion) {
      if (completion.status != Status::kSuccess) return;
      try {
        if (queue_pair->post_send(send_of(outbox, kVictimMessage))) ++posted;
      } catch (const Error& error) {
        CHECK(error.code() == "CONNECTION_CLOSED");  // it has died
      }
    };
    queue_pair->accept(acceptor.next(), {}, false);
    events.wait_established();
    // A device takes messages without its process. The software RNIC's process has to be there for it: this
    // one reads nothing any more, so it dies in the middle of a message.
    if (is_software(*provider)) child.signal(SIGSTOP);
    for (size_t count = 0; count < kVictimSends; ++count)
      REQUIRE(queue_pair->post_send(send_of(outbox, kVictimMessage)));
    while (is_software(*provider) && queue_pair->counters().bytes_sent == 0) std::this_thread::yield();
    child.end();
    events.wait_closed();
    queue_pair->close();
    CHECK(events.sends().size() == posted);
    CAPTURE(events.reason_text());
    CHECK((events.reason_code() == "CONNECTION_LOST" ||
           (!is_software(*provider) && events.reason_code() == "WIRE_ERROR")));
  }
}

TEST_CASE("connections that cannot be made end with a typed error") {
  for_each_provider([](fabric::Provider& provider, fabric::QueuePairOptions options) {
    options.connect_timeout_ms = 300;
    const PortNobodyListensOn port;
    auto reason = [&](const fabric::Endpoint& endpoint) {
      Recorder events;
      const DomainPointer domain = open_domain(provider);
      auto queue_pair = domain->create_queue_pair(options, events);
      queue_pair->connect(endpoint, {});
      events.wait_closed();
      CHECK_FALSE(events.established());
      INFO(events.reason_text());
      queue_pair->close();
      CHECK(events.closed() == 1);
      return events.reason_code();
    };
    CHECK(reason({test_host(), port.number()}) == "CONNECTION_REFUSED");
    if (is_software(provider)) {
      CHECK(reason({"::1", port.number()}) == "CONNECTION_REFUSED");
    } else {
      // No device has this address; what rdma_cm makes of that depends on the device's kind.
      const std::string code = reason({"127.0.0.1", port.number()});
      CHECK((code == "PROVIDER_UNAVAILABLE" || code == "CONNECT_FAILED"));
    }
    std::string unknown = reason({"no-such-host.invalid", 4444});
    CHECK((unknown == "ADDRESS_NOT_FOUND" || unknown == "TIMEOUT"));
  });
}

TEST_CASE("a peer that accepts late runs into the connect timeout") {
  for_each_provider([](fabric::Provider& provider, fabric::QueuePairOptions options) {
    options.connect_timeout_ms = 200;
    Acceptor acceptor(provider, options);
    Recorder events;
    const DomainPointer domain = open_domain(provider);
    auto queue_pair = domain->create_queue_pair(options, events);
    queue_pair->connect(acceptor.endpoint(), {});
    auto request = acceptor.next();
    events.wait_closed();
    CHECK(events.reason_code() == "TIMEOUT");
  });
}

TEST_CASE("listening on a taken, unknown or foreign address fails with a typed error") {
  for (std::unique_ptr<fabric::Provider>& provider : providers_under_test()) {
    Acceptor acceptor(*provider);
    auto code_of = [&](const fabric::Endpoint& endpoint) {
      try {
        provider->listen(endpoint, {}, {.request = [](auto) {}});
      } catch (const Error& error) {
        return error.code();
      }
      return std::string("none");
    };
    CHECK(code_of(acceptor.endpoint()) == "ADDRESS_IN_USE");
    CHECK(code_of({"192.0.2.77", 0}) == "ADDRESS_NOT_FOUND");
    CHECK(code_of({"no-such-host.invalid", 0}) == "ADDRESS_NOT_FOUND");
  }
}

TEST_CASE("connections work over IPv6 and by name") {
  for_each_provider([](fabric::Provider& provider, const fabric::QueuePairOptions& options) {
    if (!is_software(provider)) return skip(provider, "no device has ::1 or localhost");
    for (const char* host : {"::1", "localhost"}) {
      Traffic traffic(4096);
      Pair pair(provider, {options, options, host, {}, {}, traffic.prepare()});
      REQUIRE(pair.active->post_send(send_of(*traffic.source, 64)));
      pair.passive_events.wait_recvs(1);
      if (std::string(host) == "::1") CHECK(pair.passive->info().local_address.substr(0, 6) == "[::1]:");
      pair.close();
    }
  });
}

TEST_CASE("close at any moment from another thread ends everything, once") {
  std::mt19937 random(20240607);
  for_each_provider([&](fabric::Provider& provider, const fabric::QueuePairOptions& options) {
    for (int round = 0; round < 40; ++round) {
      Acceptor acceptor(provider, options);
      Traffic traffic(is_software(provider) ? 1 << 20 : 1 << 16);  // rxe is slow
      Recorder active_events;
      Recorder passive_events;
      const DomainPointer active_domain = open_domain(provider);
      const DomainPointer passive_domain = open_domain(provider);
      auto active = active_domain->create_queue_pair(options, active_events);
      active->connect(acceptor.endpoint(), {});
      auto request = acceptor.next();
      auto passive = passive_domain->create_queue_pair(options, passive_events);
      traffic.make(active_domain, passive_domain);
      passive->post_recv(recv_of(*traffic.inbox));
      auto wait = std::chrono::microseconds(random() % 3000);
      bool at_once = random() % 4 == 0;
      fabric::QueuePair* victim = random() % 2 == 0 ? active.get() : passive.get();
      std::thread closer([&] {
        if (!at_once) std::this_thread::sleep_for(wait);
        victim->close();
      });
      try {
        passive->accept(std::move(request), {}, false);
        for (uint64_t index = 0; index < 200; ++index) active->post_send(traffic.write(index));
      } catch (const Error& error) {
        CHECK(error.code() == "CONNECTION_CLOSED");
      }
      closer.join();
      active->close();
      passive->close();
      CHECK(active_events.closed() == 1);
      CHECK(passive_events.closed() == 1);
      CHECK(active_events.late_events() == 0);
      CHECK(passive_events.late_events() == 0);
      std::vector<fabric::Completion> sends = active_events.sends();
      for (size_t index = 0; index < sends.size(); ++index) CHECK(sends[index].wr_id == index);
    }
  });
}

TEST_CASE("queue pairs that were never started close too, and what they cannot take is rejected") {
  for_each_provider([](fabric::Provider& provider, const fabric::QueuePairOptions& options) {
    Acceptor acceptor(provider, options);
    Recorder active_events;
    Recorder passive_events;
    Recorder idle_events;
    const DomainPointer domain = open_domain(provider);
    auto idle = domain->create_queue_pair(options, idle_events);
    Buffer inbox(domain, 16);
    idle->post_recv(recv_of(inbox));
    idle->close();
    CHECK(idle_events.closed() == 1);
    CHECK(idle_events.recvs().size() == 1);
    auto active = domain->create_queue_pair(options, active_events);
    active->connect(acceptor.endpoint(), {});
    auto passive = domain->create_queue_pair(options, passive_events);
    passive->close();
    CHECK(passive_events.closed() == 1);
    CHECK_THROWS_AS(passive->accept(acceptor.next(), {}, false), Error);
    active_events.wait_closed();
    CHECK(active_events.reason_code() == "REJECTED");
  });
}
