// What a protected queue pair that outlives its carriers promises beyond one that is not.
#include <doctest/doctest.h>

#include "iwarp/carrier_keys.h"
#include "support/protection.h"
#include "support/resumable_victim.h"

using namespace rdma_migrate;
using namespace rdma_migrate::test;
using iwarp::CarrierKeys;

namespace {

iwarp::ResumeContext context_of(uint64_t epoch, uint8_t asked, uint8_t answered) {
  iwarp::ResumeContext context;
  context.epoch = epoch;
  context.asked.fill(asked);
  context.answered.fill(answered);
  return context;
}

Bytes bytes_of(const crypto::Secret& secret) { return {secret.view().begin(), secret.view().end()}; }

}  // namespace

TEST_CASE("both ends derive the same keys, other ones for each carrier and direction") {
  REQUIRE(has_libcrypto);
  const CarrierKeys active(active_protection(7));
  const CarrierKeys passive(passive_protection(7));
  const auto same = [](const iwarp::Ticket& left, const iwarp::Ticket& right) {
    return std::equal(left.view().begin(), left.view().end(), right.view().begin());
  };
  CHECK(same(active.ticket(true), passive.ticket(false)));
  CHECK_FALSE(same(active.ticket(true), active.ticket(false)));
  std::vector<Bytes> seen = {bytes_of(secret_of(1)), bytes_of(secret_of(2))};
  for (const auto& context : {context_of(1, 0, 0), context_of(2, 0, 0), context_of(1, 1, 0),
                              context_of(1, 0, 1), context_of(uint64_t{1} << 32, 0, 0)}) {
    const fabric::Protection here = active.protection(context);
    const fabric::Protection there = passive.protection(context);
    CHECK(bytes_of(here.send) == bytes_of(there.receive));
    CHECK(bytes_of(here.receive) == bytes_of(there.send));
    CHECK(here.records_per_key == 7);
    for (const auto& secret : {here.send, here.receive}) {
      CHECK(std::find(seen.begin(), seen.end(), bytes_of(secret)) == seen.end());
      seen.push_back(bytes_of(secret));
    }
  }
}

TEST_CASE("who has read the ticket of the first handshake cannot attach to a protected queue pair") {
  fabric::QueuePairOptions options = resumable();
  options.hold_until_protected = true;
  ResumableVictim made(options);
  made.victim.queue_pair->protect(passive_protection());
  // The peer's greeting, sealed: from here on it would be waited for.
  iwarp::RecordWriter writer(active_protection());
  const Bytes hello = fpdu(iwarp::control_header(1), ResumableVictim::ack(0));
  made.victim.peer.send(seal_all(writer, hello));
  RawAttach stranger(made, made.context(1));
  stranger.resume({0, 1});
  CHECK(stranger.peer.at_end());
  CHECK(made.victim.events.closed() == 0);
  CHECK(made.victim.queue_pair->state() == fabric::QueuePairState::kRts);
}

TEST_CASE("before it is protected a queue pair that is to be ends with its carrier") {
  fabric::QueuePairOptions options = resumable(60'000);
  options.hold_until_protected = true;
  ResumableVictim made(options);
  made.victim.peer.send(fpdu(send_header(1), pattern(10, 1)));
  made.victim.events.wait_recvs(1);
  made.victim.peer.reset();
  made.victim.events.wait_closed();
  CHECK(made.victim.events.reason_code() == "CONNECTION_LOST");
}

TEST_CASE("a resumable queue pair that has begun in the clear stays so") {
  ResumableVictim made;
  CHECK_THROWS_AS(made.victim.queue_pair->protect(passive_protection()), Error);
  made.take_send(1);
}
