// SENDs whose bytes the device gets with the request (IBV_SEND_INLINE), and devices that take none. Runs in
// the test VM, where rdma_create_qp() below takes librdmacm's place.
#include <dlfcn.h>
#include <doctest/doctest.h>
#include <infiniband/verbs.h>

#include <atomic>
#include <cerrno>

#include "support/requests.h"
#include "support/rig.h"
#include "support/test_device.h"

struct rdma_cm_id;

using namespace rdma_migrate;
using namespace rdma_migrate::test;

namespace {

std::atomic<bool> refuses{false};  // as a device without inline data
std::atomic<unsigned> asked{0};    // queue pairs with inline data
std::atomic<unsigned> granted{0};

struct Refusing {
  Refusing() { refuses = true; }
  ~Refusing() { refuses = false; }
};

// SENDs of each length on both sides of the border. The bytes of those up to inlined change as soon as they
// have been posted.
void send_all_lengths(fabric::DeviceProvider& provider, size_t inlined) {
  constexpr size_t kMost = 80;
  Rig rig(provider, {}, 4096);
  Buffer inbox(rig.pair.passive_domain, kMost);
  rig.sync();  // takes the RECV that the rig has posted
  size_t received = 1;
  for (size_t length = 1; length <= kMost; ++length) {
    const fabric::Bytes text = pattern(length, length);
    rig.local->fill(text);
    inbox.fill(fabric::Bytes(kMost, 0));
    rig.pair.passive->post_recv(recv_of(inbox, length));
    REQUIRE(rig.pair.active->post_send(send_of(*rig.local, length)));
    if (length <= inlined) rig.local->fill(fabric::Bytes(length, 0));
    rig.pair.passive_events.wait_recvs(++received);
    CHECK(std::equal(text.begin(), text.end(), inbox.bytes.begin()));
  }
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int rdma_create_qp(rdma_cm_id* id, ibv_pd* pd,
                                                                     ibv_qp_init_attr* attributes) {
  using Create = int (*)(rdma_cm_id*, ibv_pd*, ibv_qp_init_attr*);
  static const auto create =
      reinterpret_cast<Create>(dlsym(dlopen("librdmacm.so.1", RTLD_LAZY | RTLD_NOLOAD), "rdma_create_qp"));
  const bool wants = attributes->cap.max_inline_data != 0;
  asked += wants ? 1 : 0;
  if (wants && refuses) {
    errno = EINVAL;
    return -1;
  }
  const int result = create(id, pd, attributes);
  if (wants && result == 0) granted = attributes->cap.max_inline_data;
  return result;
}

TEST_CASE("short and long SENDs arrive as they were posted where the device takes inline data") {
  if (unavailable()) return;
  const auto provider = device_provider();
  asked = 0;
  send_all_lengths(*provider, 64);
  CHECK(asked == 2);
  CHECK(granted >= 64);  // siw and rxe both take as much
}

TEST_CASE("a device that refuses inline data is used without") {
  if (unavailable()) return;
  const auto provider = device_provider();
  const Refusing now;
  asked = 0;
  send_all_lengths(*provider, 0);
  CHECK(asked == 2);
}

TEST_CASE("an inline SEND whose memory is deregistered right after it was posted arrives") {
  if (unavailable()) return;
  const auto provider = device_provider();
  Rig rig(*provider, {}, 4096);
  const fabric::Bytes text = pattern(32, 7);
  {
    Buffer brief(rig.pair.active_domain, 32);
    brief.fill(text);
    REQUIRE(rig.pair.active->post_send(send_of(brief, 32)));
    brief.region.reset();
    std::fill(brief.bytes.begin(), brief.bytes.end(), uint8_t{0});
  }
  rig.pair.passive_events.wait_recvs(1);
  CHECK(std::equal(text.begin(), text.end(), rig.inbox->bytes.begin()));
}
