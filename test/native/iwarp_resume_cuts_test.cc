// A queue pair whose connection is cut again and again, at any byte: both ends go on as if nothing had been.
// RDMA_MIGRATE_RESUME_SEED repeats a run; RDMA_MIGRATE_RESUME_OPERATIONS and ..._CUTS make a campaign of it.
#include <doctest/doctest.h>

#include "iwarp/provider.h"
#include "support/cutting_proxy.h"
#include "support/libcrypto.h"
#include "support/protection.h"
#include "support/sanitizer.h"
#include "support/two_way.h"

using namespace rdma_migrate;
using namespace rdma_migrate::test;

namespace {

uint64_t number_of(const char* name, uint64_t otherwise) {
  const std::string text = environment(name, "");
  return text.empty() ? otherwise : std::stoull(text);
}

// A quarter of them within the handshake and the first frames.
CuttingProxy::Cut next_cut(std::mt19937_64& random) {
  const size_t most = random() % 4 == 0 ? 600 : 400'000;
  return {random() % most + 1, random() % 2 == 0};
}

struct CutRun {
  size_t cuts = 0;
  int lost = 0;
  int restored = 0;
};

enum class Kind { kPlain, kCrc, kProtected, kProtectedLater };
constexpr const char* kNames[] = {"", ", CRC32C", ", protected", ", protected once it is up"};
constexpr uint64_t kPerKey = 200;  // records: the key changes within many a carrier

CutRun run_with_cuts(uint64_t seed, uint64_t operations, uint64_t most_cuts, Kind kind) {
  std::mt19937_64 random(seed);
  auto provider = iwarp::make_provider();
  fabric::QueuePairOptions options;
  options.crc = kind == Kind::kCrc;
  options.hold_until_protected = kind == Kind::kProtectedLater;
  options.resume_window_ms = 60'000;
  options.resume_retry_ms = 1;
  TwoWayEnd active(*provider, seed + 1, operations);
  TwoWayEnd passive(*provider, seed + 2, operations);
  Acceptor acceptor(*provider, options);
  uint64_t connections = 0;
  CuttingProxy proxy(acceptor.endpoint().port, [&] {
    CuttingProxy::Cut cut;
    if (connections < most_cuts) cut = next_cut(random);
    if (connections++ == 0) cut.after += 1000;  // the queue pair has to be made
    return cut;
  });
  active.prepare(options);
  passive.prepare(options);
  const auto protect = [&] {
    passive.queue_pair->protect(passive_protection(kPerKey));
    active.queue_pair->protect(active_protection(kPerKey));  // greets at once, in a record
  };
  if (kind == Kind::kProtected) protect();
  active.queue_pair->connect(proxy.endpoint(), {});
  passive.queue_pair->accept(acceptor.next(), {}, false);
  active.wait_established();
  passive.wait_established();
  if (kind == Kind::kProtectedLater) protect();
  passive.wait_heard();
  std::thread other([&] { passive.run(active); });
  active.run(passive);
  other.join();
  const bool done = active.wait_done(passive.sends()) && passive.wait_done(active.sends());
  if (done) {
    active.queue_pair->disconnect();
    active.wait_closed();
    passive.wait_closed();
  }
  active.queue_pair->close();
  passive.queue_pair->close();
  return {proxy.cuts(), active.lost(), active.restored()};
}

}  // namespace

TEST_CASE("cuts at random bytes lose nothing and repeat nothing") {
  REQUIRE(has_libcrypto);
  const uint64_t seed = number_of("RDMA_MIGRATE_RESUME_SEED", std::random_device{}());
  const uint64_t operations = number_of("RDMA_MIGRATE_RESUME_OPERATIONS", 600);
  const uint64_t most_cuts = number_of("RDMA_MIGRATE_RESUME_CUTS", 40);
  for (const Kind kind : {Kind::kPlain, Kind::kCrc, Kind::kProtected, Kind::kProtectedLater}) {
    const std::string name = kNames[static_cast<size_t>(kind)];
    CAPTURE(seed);
    CAPTURE(name);
    const CutRun run = run_with_cuts(seed, operations, most_cuts, kind);
    MESSAGE("seed " << seed << name << ": " << run.cuts << " cuts, lost " << run.lost << " times, restored "
                    << run.restored << " times");
    CHECK(run.cuts > most_cuts / 2);
    CHECK(run.restored > static_cast<int>(most_cuts / 8));
    CHECK(run.lost == run.restored);
  }
}

TEST_CASE("an idle queue pair survives more than one break, and a window between them") {
  REQUIRE(has_libcrypto);
  auto provider = iwarp::make_provider();
  fabric::QueuePairOptions options;
  options.resume_window_ms = 1'000;
  options.resume_retry_ms = 1;
  TwoWayEnd active(*provider, 1, 3);
  TwoWayEnd passive(*provider, 2, 3);
  Acceptor acceptor(*provider, options);
  CuttingProxy proxy(acceptor.endpoint().port, [] { return CuttingProxy::Cut{}; });
  active.prepare(options);
  passive.prepare(options);
  active.queue_pair->connect(proxy.endpoint(), {});
  passive.queue_pair->accept(acceptor.next(), {}, false);
  active.wait_established();
  passive.wait_established();
  passive.wait_heard();
  for (int round = 1; round <= 3; ++round) {
    proxy.cut_all();
    active.wait_restored(round);
    passive.wait_restored(round);
    if (round == 1) std::this_thread::sleep_for(std::chrono::milliseconds(options.resume_window_ms + 10));
  }
  active.run(passive);
  passive.run(active);
  CHECK(active.wait_done(passive.sends()));
  CHECK(passive.wait_done(active.sends()));
  active.queue_pair->close();
  passive.queue_pair->close();
}
