// A device that goes away under its queue pairs. Runs in the test VM, as root, in a process of its own: the
// device is gone for good afterwards.
#include <doctest/doctest.h>
#include <unistd.h>

#include "support/requests.h"
#include "support/rig.h"
#include "support/test_device.h"

using namespace rdma_migrate;
using namespace rdma_migrate::test;

TEST_CASE("a device that is removed ends its connections and listeners, and nothing hangs") {
  if (unavailable()) return;
  // Once its link was down, as verbs_port_test leaves it, rxe makes no connection until it is made again.
  if (device_kind() == "rxe") run("rdma link delete rxe0 && rdma link add rxe0 type rxe netdev eth0");
  const auto provider = device_provider();
  // The link needs a moment.
  for (int attempt = 0; attempt < 10 && !provider->prove(device_kind() + "0", std::chrono::seconds(2)).ok;
       ++attempt)
    sleep(1);
  Acceptor idle(*provider);
  Pair pair(*provider);
  Buffer inbox(pair.passive_domain, 64);
  pair.passive->post_recv(recv_of(inbox));
  // It returns when the last process that has the device open has gone: this one.
  run("rdma link delete " + device_kind() + "0 >/dev/null 2>&1 </dev/null &");
  pair.active_events.wait_closed();
  pair.passive_events.wait_closed();
  CAPTURE(pair.active_events.reason_text());
  CAPTURE(pair.passive_events.reason_text());
  CHECK((pair.active_events.reason_code() == "CONNECTION_LOST" ||
         pair.passive_events.reason_code() == "CONNECTION_LOST"));
  CHECK(idle.failure().code() == "LISTEN_FAILED");
  pair.close();
  CHECK(pair.active_events.late_events() == 0);
  CHECK(pair.passive_events.late_events() == 0);
}
