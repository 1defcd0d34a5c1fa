// A device whose port goes down under its queue pairs. Runs in the test VM, as root, after all tests that
// connect: rxe of Linux 6.1 makes no connection from then on until it is made again. A message of the
// connection manager that finds no route stops its queue pair (GSI, state ERR) for good.
#include <doctest/doctest.h>

#include "support/requests.h"
#include "support/rig.h"
#include "support/test_device.h"

using namespace rdma_migrate;
using namespace rdma_migrate::test;

TEST_CASE("a port that goes down ends its connections with a typed error") {
  if (unavailable()) return;
  const auto provider = device_provider();
  Pair pair(*provider);
  run("ip link set eth0 down");
  pair.active_events.wait_closed();
  pair.passive_events.wait_closed();
  run("ip link set eth0 up && ip address replace 10.0.2.15/24 dev eth0");
  CAPTURE(pair.active_events.reason_text());
  if (!is_siw(*pair.active)) {
    CHECK(pair.active_events.reason_code() == "CONNECTION_LOST");
    CHECK(pair.active_events.reason_text().find("is down") != std::string::npos);
  }
  pair.close();
}
