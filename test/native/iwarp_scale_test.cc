// What many queue pairs and many strangers cost: threads and descriptors. And that one of them is served
// whatever the others do.
#include <doctest/doctest.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>

#include "iwarp/engine.h"
#include "iwarp/receiver.h"
#include "support/process_entries.h"
#include "support/victim.h"

using namespace rdma_migrate;
using namespace rdma_migrate::test;

namespace {

// Another thread does something, soon.
template <typename Done>
bool soon(Done&& done) {
  for (int pause = 0; pause < 3000; ++pause) {
    if (done()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

void raise_descriptor_limit() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

Bytes request_with(const Bytes& private_data) {
  iwarp::MpaFrame frame;
  frame.enhanced = true;
  frame.private_data = private_data;
  return iwarp::encode(frame);
}

}  // namespace

TEST_CASE("256 queue pairs of two domains share the threads of one, and an idle one costs a descriptor") {
  raise_descriptor_limit();
  constexpr size_t kPairs = 256;
  constexpr size_t kSlot = 4096;
  const auto provider = iwarp::make_provider();
  Acceptor acceptor(*provider);
  const DomainPointer here = open_domain(*provider);
  const DomainPointer there = open_domain(*provider);
  // Each end writes from its own half into the other's.
  Buffer left(here, 2 * kPairs * kSlot, kRemoteAll);
  Buffer right(there, 2 * kPairs * kSlot, kRemoteAll);
  left.fill(pattern(kPairs * kSlot, 1));
  right.fill(pattern(kPairs * kSlot, 2));
  struct Ends {
    Recorder active_events, passive_events;
    std::unique_ptr<fabric::QueuePair> active, passive;
  };
  const size_t threads_before = threads();
  const size_t descriptors_before = descriptors();
  std::vector<std::unique_ptr<Ends>> all;
  const auto recv_into = [](const Buffer& buffer, size_t at) {
    return fabric::RecvWorkRequest{at, buffer.address((kPairs + at) * kSlot), 64, buffer.region->lkey()};
  };
  for (size_t at = 0; at < kPairs; ++at) {
    all.push_back(std::make_unique<Ends>());
    Ends& ends = *all.back();
    ends.active = here->create_queue_pair({}, ends.active_events);
    ends.passive = there->create_queue_pair({}, ends.passive_events);
    ends.active->post_recv(recv_into(left, at));
    ends.passive->post_recv(recv_into(right, at));
    ends.active->connect(acceptor.endpoint(), {});
    ends.passive->accept(acceptor.next(), {}, true);
  }
  for (const auto& ends : all) {
    ends->active_events.wait_established();
    ends->passive_events.wait_established();
  }
  CHECK(threads() == threads_before);
  CHECK(descriptors() - descriptors_before <= 2 * kPairs);

  const auto say = [](fabric::QueuePair& by, const Buffer& from, const Buffer& to, size_t at) {
    const auto write = rdma_of(fabric::Opcode::kRdmaWrite, from, at * kSlot + 64,
                               to.address((kPairs + at) * kSlot + 64), to.region->rkey(), kSlot - 64, 1);
    fabric::SendWorkRequest send = rdma_of(fabric::Opcode::kSend, from, at * kSlot, 0, 0, 64, 2);
    const fabric::SendWorkRequest both[] = {write, send};
    REQUIRE(by.post_send(std::span(both)) == 2);
  };
  for (size_t at = 0; at < kPairs; ++at) {
    say(*all[at]->active, left, right, at);
    say(*all[at]->passive, right, left, at);
  }
  for (const auto& ends : all) {
    ends->active_events.wait_recvs(1);
    ends->passive_events.wait_recvs(1);
    ends->active_events.wait_sends(2);
    ends->passive_events.wait_sends(2);
  }
  constexpr auto kHalf = static_cast<ptrdiff_t>(kPairs * kSlot);
  CHECK(std::equal(left.bytes.begin(), left.bytes.begin() + kHalf, right.bytes.begin() + kHalf));
  CHECK(std::equal(right.bytes.begin(), right.bytes.begin() + kHalf, left.bytes.begin() + kHalf));
  CHECK(threads() == threads_before);
  CHECK(descriptors() - descriptors_before <= 2 * kPairs);
  for (const auto& ends : all) ends->active->disconnect();
  for (const auto& ends : all) {
    ends->active_events.wait_closed();
    ends->passive_events.wait_closed();
    CHECK(ends->passive_events.reason_text() == "an orderly end");
  }
  all.clear();
  CHECK(descriptors() == descriptors_before);
}

TEST_CASE(
    "a request that waits for its answer costs a descriptor and no thread, and one that is refused nothing") {
  constexpr size_t kPeers = 32;
  const auto provider = iwarp::make_provider();
  Acceptor acceptor(*provider);
  std::vector<RawPeer> peers;
  for (size_t count = 0; count < kPeers; ++count) peers.emplace_back(acceptor.endpoint());
  REQUIRE(soon([&] { return descriptors() >= kPeers; }));
  const size_t threads_before = threads();
  const size_t mine = descriptors();
  for (RawPeer& peer : peers) peer.send(request_with({}));
  std::vector<std::unique_ptr<fabric::ConnectionRequest>> requests;
  for (size_t count = 0; count < kPeers; ++count) requests.push_back(acceptor.next());
  CHECK(threads() == threads_before);
  CHECK(descriptors() <= mine + kPeers);
  const size_t waiting = descriptors();
  for (const auto& request : requests) request->reject({});
  CHECK(descriptors() == waiting - kPeers);
  CHECK(threads() == threads_before);
  for (RawPeer& peer : peers) CHECK(peer.receive_mpa(iwarp::MpaKind::kReply).reject);
}

TEST_CASE(
    "a thousand strangers of every kind cost a bounded number of descriptors, and an honest peer gets "
    "through") {
  raise_descriptor_limit();
  constexpr size_t kStrangers = 1000;
  constexpr size_t kMost = 64 + 64 + 32;  // half open, unanswered, in hand
  const Bytes honest_data = pattern(8, 5);
  const auto provider = iwarp::make_provider();
  const DomainPointer domain = open_domain(*provider);
  Recorder passive_events, active_events;
  const auto passive = domain->create_queue_pair({}, passive_events);
  std::mutex mutex;
  std::unique_ptr<fabric::ConnectionRequest> honest;
  std::atomic<size_t> refused{0};
  const auto on_request = [&](std::unique_ptr<fabric::ConnectionRequest> request) {
    if (!std::ranges::equal(request->private_data(), honest_data)) {
      request->reject({});
      ++refused;
      return;
    }
    std::lock_guard lock(mutex);
    honest = std::move(request);
  };
  const auto listener = provider->listen({"127.0.0.1", 0}, {}, {.request = on_request});
  const fabric::Endpoint endpoint{"127.0.0.1", listener->port()};
  const size_t threads_before = threads();
  const size_t before = descriptors();
  std::vector<RawPeer> strangers;
  size_t most = 0;
  for (size_t count = 0; count < kStrangers; ++count) {
    strangers.emplace_back(endpoint);
    if (count % 4 == 1) strangers.back().send(Bytes(20, 'x'));
    if (count % 4 == 2) strangers.back().send({'M', 'P', 'A', ' ', 'I'});
    if (count % 4 == 3) strangers.back().send(request_with({}));
    const size_t now = descriptors() - before - strangers.size();
    most = std::max(most, now);
  }
  CHECK(most <= kMost);
  const auto active = domain->create_queue_pair({}, active_events);
  active->connect(endpoint, honest_data);
  REQUIRE(soon([&] {
    std::lock_guard lock(mutex);
    return honest != nullptr;
  }));
  passive->accept(std::move(honest), {}, true);
  passive_events.wait_established();
  active_events.wait_established();
  CHECK(refused == kStrangers / 4);
  CHECK(threads() == threads_before);
  active->close();
  passive->close();
}

TEST_CASE("requests that nobody answers hold up further ones, and those come when there is room") {
  raise_descriptor_limit();
  constexpr size_t kPeers = 200;
  const auto provider = iwarp::make_provider();
  Acceptor acceptor(*provider);
  std::vector<RawPeer> peers;
  for (size_t count = 0; count < kPeers; ++count) {
    peers.emplace_back(acceptor.endpoint());
    peers.back().send(request_with({}));
  }
  REQUIRE(soon([&] { return acceptor.waiting() >= 64; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  CHECK(acceptor.waiting() < kPeers);
  CHECK(acceptor.waiting() <= 64 + 64);
  for (size_t count = 0; count < kPeers; ++count) acceptor.next()->reject({});
  for (RawPeer& peer : peers) CHECK(peer.receive_mpa(iwarp::MpaKind::kReply).reject);
}

TEST_CASE("a queue pair that is busy without end holds up no other on its thread") {
  const auto provider = iwarp::make_provider();
  Acceptor acceptor(*provider);
  const DomainPointer domain = open_domain(*provider);
  constexpr size_t kSize = 8 << 20;
  Buffer target(domain, kSize, kRemoteAll);
  struct End {
    Recorder events;
    std::unique_ptr<fabric::QueuePair> queue_pair;
  };
  // As many busy ones as threads, and more.
  std::vector<std::unique_ptr<End>> ends;
  std::vector<std::unique_ptr<RawPeer>> peers;
  const size_t count = 2 * iwarp::Engine::shared()->threads() + 1;
  for (size_t at = 0; at < count; ++at) {
    peers.push_back(std::make_unique<RawPeer>(acceptor.endpoint()));
    peers.back()->send(request_with({}));
    ends.push_back(std::make_unique<End>());
    ends.back()->queue_pair = domain->create_queue_pair({}, ends.back()->events);
    ends.back()->queue_pair->accept(acceptor.next(), {}, true);
    peers.back()->receive_mpa(iwarp::MpaKind::kReply);
  }
  std::atomic<bool> stopping{false};
  std::vector<std::thread> floods;
  for (auto& peer : peers) {
    // Each to a place of its own.
    const uint64_t place = target.address(floods.size() * 65'536);
    floods.emplace_back([&, raw = peer.get(), place] {
      const Bytes write = fpdu(write_header(target.region->rkey(), place), pattern(60'000, 1));
      while (!stopping.load()) raw->send(write);
    });
  }
  {
    Pair pair(*provider);
    Buffer inbox(pair.passive_domain, 64);
    for (size_t message = 1; message <= 20; ++message) {
      pair.passive->post_recv(recv_of(inbox));
      REQUIRE(pair.active->post_send(fabric::SendWorkRequest{}));
      pair.passive_events.wait_recvs(message);
    }
    pair.close();
  }
  stopping = true;
  for (const auto& end : ends) end->queue_pair->close();
  for (std::thread& flood : floods) flood.join();
}

TEST_CASE("a flood of empty FPDUs takes no longer turn than bulk data") {
  constexpr size_t kTurn = 64 * 1024;
  constexpr size_t kFpdus = 1000;  // 20 bytes each, fewer than one turn's bytes in all
  int ends[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  RawPeer peer(ends[0]);
  const UniqueFd ours(ends[1]);
  Recorder events;
  iwarp::MessageState messages({}, events,
                               std::make_shared<iwarp::RegionTable>(std::make_shared<iwarp::Engine>(1)));
  iwarp::IoSection section;
  const std::string name = "the peer";
  iwarp::Receiver receiver(messages, section, name);
  receiver.open(ours.get(), false, false);
  Bytes flood;
  for (size_t count = 0; count < kFpdus; ++count) flood = flood + fpdu(write_header(0, 0), {});
  REQUIRE(flood.size() < kTurn);
  peer.send(flood);
  size_t turns = 1;
  while (receiver.receive(kTurn) == iwarp::Receiver::Went::kOn) ++turns;
  CHECK(turns >= kFpdus * 512 / kTurn);
  CHECK(messages.counters.bytes_received == flood.size());
}
