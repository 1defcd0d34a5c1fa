// What only a device can do to a connection. Runs in the test VM. verbs_port_test.cc takes the device's link
// away, verbs_removal_test.cc the device itself.
#include <doctest/doctest.h>
#include <sys/resource.h>

#include "support/requests.h"
#include "support/rig.h"
#include "support/test_device.h"

using namespace rdma_migrate;
using namespace rdma_migrate::test;

TEST_CASE("the device is listed with its port and address, and proves itself") {
  if (unavailable()) return;
  const auto provider = device_provider();
  const std::vector<fabric::Device> devices = provider->devices();
  REQUIRE(devices.size() == 1);
  CHECK(devices[0].name == device_kind() + "0");
  CHECK(devices[0].transport == (device_kind() == "siw" ? "iWARP" : "InfiniBand"));
  REQUIRE(devices[0].ports.size() == 1);
  CHECK(devices[0].ports[0].state == "ACTIVE");
  CHECK(std::count(devices[0].addresses.begin(), devices[0].addresses.end(), test_host()) == 1);
  const fabric::Proof proof = provider->prove(devices[0].name, std::chrono::seconds(10));
  CAPTURE(proof.message);
  CHECK(proof.ok);
  CHECK_FALSE(provider->prove("nothing0", std::chrono::seconds(1)).ok);
}

TEST_CASE("an address is found through the device, or not, with the reason") {
  if (unavailable()) return;
  const auto provider = device_provider();
  const auto reach = [&](const std::string& host, fabric::Direction direction) {
    return provider->reach({host, 4444}, direction, std::chrono::milliseconds(500));
  };
  CHECK(reach(test_host(), fabric::Direction::kConnect).device == device_kind() + "0");
  CHECK(reach(test_host(), fabric::Direction::kListen).device == device_kind() + "0");
  CHECK(reach("0.0.0.0", fabric::Direction::kListen).reachable);
  for (const char* host : {"127.0.0.1", "no-such-host.invalid"}) {
    CAPTURE(host);
    CHECK_FALSE(reach(host, fabric::Direction::kConnect).reachable);
    CHECK_FALSE(reach(host, fabric::Direction::kListen).reachable);
    CHECK(reach(host, fabric::Direction::kConnect).reason != "");
  }
}

TEST_CASE("a SEND that finds no RECV ends the connection with a typed error") {
  if (unavailable()) return;
  const auto provider = device_provider();
  Pair pair(*provider);
  Buffer outbox(pair.active_domain, 64);
  REQUIRE(pair.active->post_send(send_of(outbox, 64)));
  pair.active_events.wait_closed();
  CAPTURE(pair.active_events.reason_text());
  // iWARP has no negative acknowledgement: the peer ends the connection.
  if (!is_siw(*pair.active)) CHECK(pair.active_events.reason_code() == "WIRE_ERROR");
  pair.close();
}

TEST_CASE("more than the locked memory limit is refused before anything is pinned") {
  if (unavailable()) return;
  const auto provider = device_provider();
  Pair pair(*provider);
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_MEMLOCK, &before) == 0);
  const rlimit small{1 << 20, before.rlim_max};
  REQUIRE(setrlimit(RLIMIT_MEMLOCK, &small) == 0);
  fabric::Bytes memory(4 << 20);
  std::string code = "none";
  std::string text;
  try {
    pair.active_domain->register_memory(reinterpret_cast<uintptr_t>(memory.data()), memory.size(),
                                        kRemoteAll);
  } catch (const Error& error) {
    code = error.code();
    text = error.what();
  }
  REQUIRE(setrlimit(RLIMIT_MEMLOCK, &before) == 0);
  CAPTURE(text);
  // siw takes the limit at its word; other drivers let root pass, as the kernel's rule is.
  CHECK(code == (device_kind() == "siw" ? "LOCKED_MEMORY_LIMIT" : "none"));
  pair.close();
}

TEST_CASE("what lies across two registrations of a large range arrives whole") {
  if (unavailable()) return;
  const auto provider = device_provider();
  constexpr uint64_t kPiece = 64 << 20;
  constexpr uint64_t kHalf = 4096;
  Rig rig(*provider, {}, 2 * kHalf);
  fabric::Bytes memory(2 * kPiece + kHalf);
  for (uint64_t at = kPiece - kHalf; at < kPiece + kHalf; ++at)
    memory[at] = static_cast<uint8_t>(at * 37 + at / 256);
  const auto region =
      rig.pair.active_domain->register_memory(reinterpret_cast<uintptr_t>(memory.data()), memory.size(), 0);
  fabric::SendWorkRequest write = rig.write(0, 0, 2 * kHalf);
  write.address = region->address() + kPiece - kHalf;
  write.lkey = region->lkey();
  REQUIRE(rig.pair.active->post_send(write));
  rig.sync();
  CHECK(std::equal(rig.remote->bytes.begin(), rig.remote->bytes.end(), memory.begin() + kPiece - kHalf));
  write.length = kPiece + 1;
  CHECK_THROWS_AS(rig.pair.active->post_send(write), Error);
}

TEST_CASE(
    "requests that nobody answers are bounded: more are refused at once, and taken again after one went") {
  if (unavailable()) return;
  constexpr size_t kMost = 64;
  const auto provider = device_provider();
  const DomainPointer domain = open_domain(*provider);
  Acceptor acceptor(*provider);
  std::vector<Recorder> events(kMost + 2);
  std::vector<std::unique_ptr<fabric::QueuePair>> queue_pairs;
  const auto connect = [&] {
    queue_pairs.push_back(domain->create_queue_pair({}, events[queue_pairs.size()]));
    queue_pairs.back()->connect(acceptor.endpoint(), {});
  };
  std::vector<std::unique_ptr<fabric::ConnectionRequest>> unanswered;
  while (unanswered.size() < kMost) {
    connect();
    unanswered.push_back(acceptor.next());
  }
  connect();
  events[kMost].wait_closed();
  CHECK(events[kMost].reason_code() == "REJECTED");
  unanswered.pop_back();
  events[kMost - 1].wait_closed();
  connect();
  CHECK(acceptor.next()->peer_address() != "");
  for (auto& queue_pair : queue_pairs) queue_pair->close();
}
