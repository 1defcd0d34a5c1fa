// A kernel that never lets an rdma_cm id go: no close() waits for it. Runs in the test VM, where
// rdma_destroy_id() below takes librdmacm's place.
#include <dlfcn.h>
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "support/requests.h"
#include "support/rig.h"
#include "support/test_device.h"

struct rdma_cm_id;

using namespace rdma_migrate;
using namespace rdma_migrate::test;

namespace {

struct Kernel {
  std::mutex mutex;
  std::condition_variable changed;
  bool hangs = false;
  size_t begun = 0;
  size_t done = 0;

  void set(bool value) {
    std::lock_guard lock(mutex);
    hangs = value;
    changed.notify_all();
  }
  bool wait_all_done() {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, std::chrono::seconds(60), [this] { return begun == done; });
  }
};

Kernel& kernel() {
  static auto* const only = new Kernel;
  return *only;
}

struct Hanging {
  Hanging() { kernel().set(true); }
  ~Hanging() { kernel().set(false); }
};

}  // namespace

extern "C" __attribute__((visibility("default"))) int rdma_destroy_id(rdma_cm_id* id) {
  using Destroy = int (*)(rdma_cm_id*);
  static const auto destroy =
      reinterpret_cast<Destroy>(dlsym(dlopen("librdmacm.so.1", RTLD_LAZY | RTLD_NOLOAD), "rdma_destroy_id"));
  Kernel& of = kernel();
  {
    std::unique_lock lock(of.mutex);
    ++of.begun;
    of.changed.wait(lock, [&] { return !of.hangs; });
  }
  const int result = destroy(id);
  std::lock_guard lock(of.mutex);
  ++of.done;
  of.changed.notify_all();
  return result;
}

TEST_CASE("an rdma_cm id that the kernel never lets go holds up no close() and no other queue pair") {
  if (unavailable()) return;
  const auto provider = device_provider();
  {
    Rig stays(*provider, {}, 4096);
    const Hanging now;
    size_t begun = 0;
    for (int round = 0; round < 3; ++round) {
      Rig rig(*provider, {}, 4096);
      rig.sync();
      rig.pair.close();
    }  // closes both domains and their listener, and deregisters memory
    {
      std::lock_guard lock(kernel().mutex);
      begun = kernel().begun - kernel().done;
    }
    CHECK(begun >= 1);
    REQUIRE(stays.pair.active->post_send(stays.write(0, 0, 4096)));
    stays.sync();
    CHECK(stays.remote->bytes == stays.local->bytes);
    stays.pair.close();
  }
  CHECK(kernel().wait_all_done());
}

TEST_CASE("a queue pair of a domain is closed while an earlier one's id hangs in the kernel") {
  if (unavailable()) return;
  const auto provider = device_provider();
  const DomainPointer here = open_domain(*provider);
  const DomainPointer there = open_domain(*provider);
  Acceptor acceptor(*provider);
  const auto connect = [&](Recorder& active_events, Recorder& passive_events) {
    auto active = here->create_queue_pair({}, active_events);
    active->connect(acceptor.endpoint(), {});
    auto passive = there->create_queue_pair({}, passive_events);
    passive->accept(acceptor.next(), {}, false);
    active_events.wait_established();
    passive_events.wait_established();
    return std::pair(std::move(active), std::move(passive));
  };
  Recorder events[4];
  auto first = connect(events[0], events[1]);
  auto second = connect(events[2], events[3]);
  {
    const Hanging now;
    for (auto* pair : {&first, &second}) {
      pair->first->close();
      pair->second->close();
    }
  }
  for (Recorder& each : events) CHECK(each.closed() == 1);
  CHECK(kernel().wait_all_done());
}

TEST_CASE("a request that is rejected while the kernel lets no id go is answered at once") {
  if (unavailable()) return;
  const auto provider = device_provider();
  const DomainPointer domain = open_domain(*provider);
  Recorder events;
  {
    Acceptor acceptor(*provider);
    const auto queue_pair = domain->create_queue_pair({}, events);
    queue_pair->connect(acceptor.endpoint(), {});
    const auto request = acceptor.next();
    const Hanging now;
    request->reject({});
    events.wait_closed();
    CHECK(events.reason_code() == "REJECTED");
    queue_pair->close();
  }
  CHECK(kernel().wait_all_done());
}

TEST_CASE("a listener takes no more than so many strangers that the kernel keeps, and goes on when they go") {
  if (unavailable()) return;
  constexpr size_t kMost = 128;
  const auto provider = device_provider();
  const DomainPointer domain = open_domain(*provider);
  std::vector<Recorder> events(kMost + 1);
  {
    Acceptor acceptor(*provider);
    std::vector<std::unique_ptr<fabric::QueuePair>> queue_pairs;
    const auto connect = [&] {
      queue_pairs.push_back(domain->create_queue_pair({}, events[queue_pairs.size()]));
      queue_pairs.back()->connect(acceptor.endpoint(), {});
    };
    {
      const Hanging now;
      while (queue_pairs.size() < kMost) {
        connect();
        acceptor.next()->reject({});
        events[queue_pairs.size() - 1].wait_closed();
      }
      connect();
      std::this_thread::sleep_for(std::chrono::milliseconds(500));
      CHECK(acceptor.waiting() == 0);
    }
    CHECK(acceptor.next()->peer_address() != "");
    for (auto& queue_pair : queue_pairs) queue_pair->close();
  }
  CHECK(kernel().wait_all_done());
}
