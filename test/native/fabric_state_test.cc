// The states of a queue pair: every change in every state, and what the providers show of it.
#include <doctest/doctest.h>

#include <array>

#include "fabric/queue_pair_state.h"
#include "support/providers.h"
#include "support/rig.h"

using namespace rdma_migrate;
using namespace rdma_migrate::test;
using Change = fabric::QueuePairChange;
using State = fabric::QueuePairState;

namespace {

constexpr std::array kStates = {State::kInit,      State::kRts,       State::kSqd,
                                State::kSuspended, State::kTerminate, State::kError};
constexpr std::array kChanges = {Change::kConnected,       Change::kDrain, Change::kCarrierLost,
                                 Change::kCarrierRestored, Change::kFault, Change::kEnd};

constexpr std::optional<State> kNo = std::nullopt;

// A row for each state, a column for each change, in the order above.
constexpr std::optional<State> kExpected[6][6] = {
    /* INIT */ {State::kRts, kNo, kNo, kNo, State::kTerminate, State::kError},
    /* RTS */ {kNo, State::kSqd, State::kSuspended, kNo, State::kTerminate, State::kError},
    /* SQD */ {kNo, kNo, State::kSuspended, kNo, State::kTerminate, State::kError},
    /* SUSPENDED */ {kNo, kNo, kNo, State::kRts, kNo, State::kError},
    /* TERMINATE */ {kNo, kNo, kNo, kNo, kNo, State::kError},
    /* ERROR */ {kNo, kNo, kNo, kNo, kNo, kNo},
};

}  // namespace

TEST_CASE("every change in every state leads where the table says, or nowhere") {
  for (size_t row = 0; row < kStates.size(); ++row) {
    for (size_t column = 0; column < kChanges.size(); ++column) {
      CAPTURE(fabric::to_string(kStates[row]));
      CAPTURE(column);
      CHECK(fabric::next_state(kStates[row], kChanges[column]) == kExpected[row][column]);
    }
  }
}

TEST_CASE("the states have their names") {
  const std::array names = {"INIT", "RTS", "SQD", "SUSPENDED", "TERMINATE", "ERROR"};
  for (size_t at = 0; at < kStates.size(); ++at)
    CHECK(std::string(fabric::to_string(kStates[at])) == names[at]);
}

TEST_CASE("a queue pair is INIT, then RTS with its peer, and ERROR in the end") {
  for_each_provider([](fabric::Provider& provider, const fabric::QueuePairOptions& options) {
    const DomainPointer domain = open_domain(provider);
    Recorder events;
    const auto idle = domain->create_queue_pair(options, events);
    CHECK(idle->state() == State::kInit);
    idle->close();
    CHECK(idle->state() == State::kError);

    Pair pair(provider, pair_options(options));
    CHECK(pair.active->state() == State::kRts);
    CHECK(pair.passive->state() == State::kRts);
    pair.active->disconnect();
    pair.active_events.wait_closed();
    pair.passive_events.wait_closed();
    CHECK(pair.active->state() == State::kError);
    CHECK(pair.passive->state() == State::kError);
  });
}

TEST_CASE("disconnect before connect ends the queue pair in order, and it connects no more") {
  for_each_provider([](fabric::Provider& provider, const fabric::QueuePairOptions& options) {
    const DomainPointer domain = open_domain(provider);
    Recorder events;
    const auto idle = domain->create_queue_pair(options, events);
    Buffer inbox(domain, 16);
    idle->post_recv(recv_of(inbox));
    idle->disconnect();
    events.wait_closed();
    CHECK(events.reason_text() == "an orderly end");
    CHECK(events.recvs().size() == 1);
    CHECK_THROWS_AS(idle->connect({test_host(), 1}, {}), Error);
    idle->close();
    CHECK(events.closed() == 1);
  });
}

TEST_CASE("notify brings one event or more, from any thread, and none after the end") {
  for_each_provider([](fabric::Provider& provider, const fabric::QueuePairOptions& options) {
    Pair pair(provider, pair_options(options));
    for (int count = 1; count <= 20; ++count) {
      pair.active->notify();
      pair.active_events.wait_notified(count);
    }
    pair.close();
    pair.active->notify();
    CHECK(pair.active_events.late_events() == 0);
  });
}

TEST_CASE("a batch is posted as far as there is room, and as far as it is good") {
  for_each_provider([](fabric::Provider& provider, fabric::QueuePairOptions options) {
    options.max_send_wr = 8;
    options.max_recv_wr = 4;
    Rig rig(provider, options, 4096);
    std::vector<fabric::SendWorkRequest> batch;
    for (uint64_t id = 0; id < 12; ++id) batch.push_back(rig.write(0, 0, 16, id));
    for (fabric::SendWorkRequest& request : batch) request.signaled = request.wr_id == 7;
    CHECK(rig.pair.active->post_send(std::span(batch)) == 8);
    rig.pair.active_events.wait_sends(1);
    CHECK(rig.pair.active_events.sends().at(0).wr_id == 7);

    batch.resize(4);
    for (fabric::SendWorkRequest& request : batch) request.signaled = true;
    batch[2].lkey ^= 1;
    CHECK_THROWS_AS(rig.pair.active->post_send(std::span(batch)), Error);
    rig.pair.active_events.wait_sends(3);
    CHECK(rig.pair.active_events.sends().at(2).wr_id == 1);

    const std::vector<fabric::RecvWorkRequest> recvs(8, recv_of(*rig.inbox));
    CHECK(rig.pair.passive->post_recv(std::span(recvs)) == 3);  // one has been posted before
    CHECK(rig.pair.active_events.empty_batches() == 0);
  });
}
