// Connecting over an RDMA device in a process that gets no further thread. Runs in the test VM, before
// verbs_device_test.cc takes the link away.
#include <dlfcn.h>
#include <doctest/doctest.h>
#include <pthread.h>

#include <atomic>
#include <cerrno>

#include "support/requests.h"
#include "support/rig.h"
#include "support/test_device.h"

using namespace rdma_migrate;
using namespace rdma_migrate::test;

namespace {

std::atomic<bool> none_left{false};

struct NoThreads {
  NoThreads() { none_left = true; }
  ~NoThreads() { none_left = false; }
};

}  // namespace

// Also the provider's, which is loaded after this.
extern "C" __attribute__((visibility("default"))) int pthread_create(pthread_t* thread,
                                                                     const pthread_attr_t* attributes,
                                                                     void* (*body)(void*), void* argument) {
  using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  static const auto create = reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"));
  return none_left ? EAGAIN : create(thread, attributes, body, argument);
}

TEST_CASE("the first queue pair of a domain says so when it gets no thread, and works later") {
  if (unavailable()) return;
  const auto provider = device_provider();
  const DomainPointer domain = open_domain(*provider);
  Recorder events;
  std::string code = "none";
  try {
    const NoThreads now;
    domain->create_queue_pair({}, events);
  } catch (const Error& error) {
    code = error.code();
  }
  CHECK(code == "RESOURCE_LIMIT");
  domain->create_queue_pair({}, events)->close();
  CHECK(events.closed() == 1);
}

TEST_CASE("a handshake that is given up without a thread ends its queue pair, and others go on") {
  if (unavailable()) return;
  const auto provider = device_provider();
  Rig rig(*provider, {}, 4096);
  Acceptor acceptor(*provider);
  Recorder given_up;
  const auto queue_pair = rig.pair.active_domain->create_queue_pair({}, given_up);
  queue_pair->connect(acceptor.endpoint(), {});
  const auto request = acceptor.next();  // and no answer
  {
    const NoThreads now;
    queue_pair->close();
  }
  CHECK(given_up.closed() == 1);
  CHECK(given_up.late_events() == 0);
  REQUIRE(rig.pair.active->post_send(rig.write(0, 0, 4096)));
  rig.sync();
  CHECK(rig.remote->bytes == rig.local->bytes);
}

TEST_CASE("a connection that needs a thread of its own and gets none ends with the reason") {
  if (unavailable()) return;
  const auto provider = device_provider();
  Acceptor acceptor(*provider);
  const DomainPointer domain = open_domain(*provider);
  Recorder events;
  const auto queue_pair = domain->create_queue_pair({}, events);
  const NoThreads now;
  queue_pair->connect(acceptor.endpoint(), {});
  if (device_kind() == "siw") {
    events.wait_closed();
    CHECK(events.reason_code() == "RESOURCE_LIMIT");
  } else {
    CHECK(acceptor.next()->peer_address() != "");
  }
  queue_pair->close();
}
