// An endpoint over queue pairs that do what the test says: what its observer is told, of which ends, and what
// a peer may not send on a rail.
#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "engine/endpoint.h"
#include "support/endpoints.h"
#include "support/scripted.h"

namespace rdma_migrate::engine {
namespace {

using test::EndpointWatcher;
using test::ScriptedDomain;
using test::ScriptedQueuePair;

enum class Refusal { kNone, kRegistration, kReceive };

// The code of the error that its constructor throws.
std::string refused_code(EndpointWatcher& observer, Refusal refusal) {
  auto domain = std::make_unique<ScriptedDomain>();
  domain->refuse_registration = refusal == Refusal::kRegistration;
  if (refusal == Refusal::kReceive) domain->recv_refusal = "CONNECT_FAILED";
  try {
    Endpoint endpoint(std::move(domain), {}, observer);
    return "";
  } catch (const Error& error) {
    return error.code();
  }
}

TEST_CASE("an observer is told once that its endpoint has ended") {
  EndpointWatcher observer;
  CHECK(refused_code(observer, Refusal::kNone).empty());
  CHECK(observer.ends() == 1);
}

TEST_CASE("an observer hears nothing of an endpoint that could not be made") {
  EndpointWatcher observer;
  CHECK(refused_code(observer, Refusal::kRegistration) == "LOCKED_MEMORY_LIMIT");
  CHECK(observer.ends() == 0);
  CHECK(refused_code(observer, Refusal::kReceive) == "CONNECT_FAILED");
  CHECK(observer.ends() == 0);
}

// An endpoint with rails, all of them the test's.
struct Scripted {
  explicit Scripted(size_t rails) {
    auto made = std::make_unique<ScriptedDomain>();
    domain = made.get();
    endpoint = std::make_unique<Endpoint>(std::move(made), fabric::QueuePairOptions{}, observer);
    control().establish();
    observer.wait_established();
    for (size_t i = 0; i < rails; ++i) {
      endpoint->connect_rail({"host", 1}, {}, 10'000, i);
      rail(i).establish();
      observer.wait_rails(static_cast<int>(i) + 1);
    }
  }
  ScriptedQueuePair& control() { return *domain->queue_pairs[0]; }
  ScriptedQueuePair& rail(size_t i) { return *domain->queue_pairs[i + 1]; }
  // The newest barrier message that was sent on a rail.
  fabric::Bytes said(size_t i) {
    const auto request = rail(i).posted().back();
    const auto* from = reinterpret_cast<const uint8_t*>(request.address);
    return {from, from + request.length};
  }
  std::string end() {
    observer.wait_closed();
    const auto reason = observer.reason();
    return reason ? reason->code() + ": " + reason->what() : "";
  }

  EndpointWatcher observer;
  ScriptedDomain* domain = nullptr;
  std::unique_ptr<Endpoint> endpoint;
};

fabric::Bytes message(uint32_t kind, uint64_t token) {
  fabric::Bytes bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<uint8_t>(kind >> shift));
  for (int shift = 56; shift >= 0; shift -= 8) bytes.push_back(static_cast<uint8_t>(token >> shift));
  return bytes;
}
constexpr uint32_t kBarrier = 1, kPassed = 2;

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("a barrier without rails has passed at once") {
  Scripted scripted(0);
  scripted.endpoint->barrier(7);
  scripted.observer.wait_barriers(1);
  CHECK(scripted.endpoint->rails() == 1);
}

TEST_CASE("a barrier has passed when every rail has answered, and not before") {
  Scripted scripted(3);
  CHECK(scripted.endpoint->rails() == 4);
  scripted.endpoint->barrier(7);
  for (const size_t i : {2, 0}) {
    scripted.rail(i).wait_posted(1);
    fabric::Bytes answer = scripted.said(i);
    REQUIRE(answer.size() == 12);
    CHECK(answer[3] == kBarrier);
    answer[3] = kPassed;
    CHECK(scripted.rail(i).receive(answer));
    scripted.rail(i).settle();
    CHECK(scripted.observer.barriers() == 0);
  }
  fabric::Bytes answer = scripted.said(1);
  answer[3] = kPassed;
  CHECK(scripted.rail(1).receive(answer));
  scripted.observer.wait_barriers(1);
  CHECK(scripted.observer.passed().contains(7));
}

TEST_CASE("a barrier goes after the WRITEs of its rail, and waits for them on a slow one") {
  Scripted scripted(2);
  auto bitmap = std::make_shared<memory::Bitmap>(16384);
  bitmap->set_range(0, 16384);
  WriteJob job;
  job.spans = {{0, 16384 * 4096, 0, 0}};
  job.bitmap = bitmap;
  scripted.endpoint->writer().submit(std::move(job), [](const WriteResult&) {});
  for (const size_t i : {0, 1}) {
    scripted.rail(i).wait_posted(1);
    scripted.rail(i).settle();
  }
  scripted.endpoint->barrier(7);
  for (const size_t i : {0, 1}) {
    const auto posted = scripted.rail(i).posted();
    CHECK(posted.back().opcode == fabric::Opcode::kSend);
    CHECK(std::count_if(posted.begin(), posted.end(), [](const auto& request) {
            return request.opcode == fabric::Opcode::kRdmaWrite;
          }) == static_cast<std::ptrdiff_t>(posted.size()) - 1);
  }
  // The quick rail's peer has all of it, the slow one's has not come to the barrier.
  fabric::Bytes answer = scripted.said(0);
  answer[3] = kPassed;
  CHECK(scripted.rail(0).receive(answer));
  scripted.rail(0).settle();
  CHECK(scripted.observer.barriers() == 0);
}

TEST_CASE("who asks while a barrier runs waits for the next, which serves all of them") {
  Scripted scripted(1);
  scripted.endpoint->barrier(1);
  scripted.endpoint->barrier(2);
  scripted.endpoint->barrier(3);
  CHECK(scripted.rail(0).posted().size() == 1);
  for (const size_t round : {1, 2}) {
    scripted.rail(0).wait_posted(round);
    fabric::Bytes answer = scripted.said(0);
    answer[3] = kPassed;
    CHECK(scripted.rail(0).receive(answer));
    scripted.observer.wait_barriers(round == 1 ? 1 : 3);
    CHECK(scripted.observer.barriers() == (round == 1 ? 1 : 3));
  }
  scripted.rail(0).settle();
  CHECK(scripted.rail(0).posted().size() == 2);
}

TEST_CASE("a barrier of the peer is answered on the same rail, without the observer") {
  Scripted scripted(2);
  CHECK(scripted.rail(1).receive(message(kBarrier, 0x0102030405060708)));
  scripted.rail(1).wait_posted(1);
  CHECK(scripted.said(1) == message(kPassed, 0x0102030405060708));
  CHECK(scripted.rail(0).posted().empty());
  CHECK(scripted.observer.ends() == 0);
}

TEST_CASE("what no peer sends on a rail ends the endpoint, with the channel's name") {
  const auto ends = [](const fabric::Bytes& bytes, const std::string& words) {
    Scripted scripted(3);
    REQUIRE(scripted.rail(1).receive(bytes));
    const std::string end = scripted.end();
    INFO(end);
    CHECK(contains(end, "PROTOCOL_ERROR: channel 3 of 4"));
    CHECK(contains(end, words));
  };
  ends({}, "0 bytes");
  ends({1, 2, 3}, "3 bytes");
  ends(fabric::Bytes(16, 0), "16 bytes");
  ends(message(0, 1), "unknown kind 0");
  ends(message(0x01000000, 1), "unknown kind 16777216");
  ends(message(kPassed, 1), "not asked for");  // nobody asked
}

TEST_CASE("an answer to another barrier, or the same answer again, ends the endpoint") {
  for (const bool twice : {true, false}) {
    Scripted scripted(2);
    scripted.endpoint->barrier(1);
    scripted.rail(0).wait_posted(1);
    fabric::Bytes answer = scripted.said(0);
    answer[3] = kPassed;
    if (!twice) answer[11] ^= 1;
    CHECK(scripted.rail(0).receive(answer));
    if (twice) CHECK(scripted.rail(0).receive(answer));
    CHECK(contains(scripted.end(), "PROTOCOL_ERROR: channel 2 of 3"));
    CHECK(scripted.observer.barriers() == 0);
  }
}

TEST_CASE("a flood of barriers whose answers are not taken ends the endpoint") {
  Scripted scripted(1);
  for (uint64_t i = 0; i < 100 && scripted.observer.ends() == 0; ++i) {
    if (!scripted.rail(0).receive(message(kBarrier, i))) break;
    scripted.rail(0).settle();
  }
  CHECK(contains(scripted.end(), "faster than it takes their answers"));
  CHECK(scripted.rail(0).posted().size() < 8);
}

TEST_CASE("a rail that dies fails every job and ends the endpoint, with its name") {
  Scripted scripted(3);
  auto bitmap = std::make_shared<memory::Bitmap>(16384);
  bitmap->set_range(0, 16384);
  std::atomic<int> failed{0};
  for (int i = 0; i < 3; ++i) {
    WriteJob job;
    job.spans = {{0, 16384 * 4096, 0, 0}};
    job.bitmap = bitmap;
    scripted.endpoint->writer().submit(std::move(job),
                                       [&](const WriteResult& result) { failed += !result.ok; });
  }
  scripted.rail(2).wait_posted(1);
  scripted.endpoint->barrier(1);
  const Error reason("CONNECTION_LOST", "the peer has gone");
  scripted.rail(2).end(&reason);
  CHECK(contains(scripted.end(), "CONNECTION_LOST: channel 4 of 4 is lost: the peer has gone"));
  CHECK(failed == 3);
  CHECK(scripted.observer.barriers() == 0);
}

TEST_CASE("what fails on this side of a rail keeps its code, and may be told to the peer") {
  Scripted scripted(2);
  const Error reason("IO_ERROR", "cannot read '/vm/ram'"), control("CONNECTION_LOST", "the peer has gone");
  scripted.rail(1).end(&reason);
  scripted.observer.wait_receive_failed();
  CHECK(scripted.observer.receive_failure().code() == "IO_ERROR");
  CHECK(scripted.endpoint->send(message(0, 0), 1));
  scripted.rail(0).end(&control);  // the peer ends too
  scripted.control().end(&control);
  CHECK(contains(scripted.end(), "IO_ERROR: channel 3 of 3 is lost: cannot read '/vm/ram'"));
}

TEST_CASE("an endpoint that failed on this side ends though nobody tells the peer") {
  Scripted scripted(2);
  scripted.endpoint->barrier(1);
  const Error lost("CONNECTION_LOST", "the peer has gone"), reason("DISK_FULL", "make room");
  scripted.rail(0).end(&lost);
  scripted.rail(0).settle();
  scripted.rail(1).end(&reason);
  CHECK(contains(scripted.end(), "DISK_FULL: channel 3 of 3"));
}

TEST_CASE("a rail that cannot keep what it receives says so while the others go on") {
  Scripted scripted(2);
  scripted.rail(0).choke(Error("DISK_FULL", "cannot write '/vm/ram'"));
  scripted.observer.wait_receive_failed();
  CHECK(scripted.observer.receive_failure().code() == "DISK_FULL");
  CHECK(contains(scripted.observer.receive_failure().what(), "channel 2 of 3: cannot write '/vm/ram'"));
  CHECK(scripted.observer.ends() == 0);
}

TEST_CASE("where the control queue pair ends too, it tells why") {
  Scripted scripted(1);
  scripted.endpoint->barrier(1);
  const Error rail("CONNECTION_LOST", "the rail"), control("TERMINATED", "the control queue pair");
  scripted.rail(0).end(&rail);
  scripted.rail(0).settle();
  scripted.control().end(&control);
  CHECK(contains(scripted.end(), "TERMINATED"));
  CHECK(scripted.observer.ends() == 1);
}

TEST_CASE("a peer that closes its rails before its control queue pair ends in good order") {
  Scripted scripted(2);
  scripted.endpoint->barrier(1);
  scripted.rail(0).end(nullptr);
  scripted.rail(1).end(nullptr);
  scripted.rail(1).settle();
  scripted.control().end(nullptr);
  CHECK(scripted.end().empty());
}

TEST_CASE("a rail whose queue pair cannot be made, or comes too late, is refused at the call") {
  Scripted scripted(1);
  const auto refusal = [&] {
    try {
      scripted.endpoint->connect_rail({"host", 1}, {}, 10'000, 7);
      return std::string("none");
    } catch (const Error& error) {
      return error.code();
    }
  };
  // Its last event comes while it is being destroyed, and asks the endpoint for its channel's name.
  scripted.domain->recv_refusal = "RESOURCE_LIMIT";
  CHECK(refusal() == "RESOURCE_LIMIT");
  CHECK(scripted.endpoint->rails() == 2);
  CHECK(scripted.observer.ends() == 0);
  scripted.domain->recv_refusal = nullptr;
  scripted.endpoint->close();
  CHECK(refusal() == "CONNECTION_CLOSED");
}

TEST_CASE("a rail that could not be established says so, and nothing else ends") {
  Scripted scripted(1);
  scripted.endpoint->connect_rail({"host", 1}, {}, 10'000, 42);
  const Error refusal("REJECTED", "no more of them");
  scripted.rail(1).end(&refusal);
  scripted.observer.wait_refused();
  CHECK(scripted.observer.refusal().code() == "REJECTED");
  CHECK(scripted.endpoint->rails() == 2);
  scripted.endpoint->barrier(1);
  scripted.rail(0).wait_posted(1);
  CHECK(scripted.observer.ends() == 0);
}

TEST_CASE("a rail that ends before it has carried anything is left out, and the others are numbered anew") {
  Scripted scripted(3);
  const Error reason("CONNECTION_LOST", "the peer has given it up");
  scripted.rail(0).end(&reason);
  scripted.rail(0).settle();
  scripted.rail(1).end(nullptr);
  scripted.rail(1).settle();
  CHECK(scripted.endpoint->rails() == 2);
  scripted.endpoint->barrier(7);
  scripted.rail(2).wait_posted(1);
  fabric::Bytes answer = scripted.said(2);
  answer[3] = kPassed;
  CHECK(scripted.rail(2).receive(answer));
  scripted.observer.wait_barriers(1);
  CHECK(scripted.observer.ends() == 0);
  scripted.rail(2).end(&reason);
  CHECK(contains(scripted.end(), "channel 2 of 2 is lost"));
}

TEST_CASE("a rail that has been asked for a barrier by the peer is not left out") {
  Scripted scripted(1);
  CHECK(scripted.rail(0).receive(message(kBarrier, 1)));
  scripted.rail(0).wait_posted(1);
  scripted.rail(0).end(nullptr);
  CHECK(contains(scripted.end(), "channel 2 of 2 is lost"));
}

TEST_CASE("a rail that is left out while a bandwidth limit holds it back keeps no other from its turn") {
  Scripted scripted(2);
  auto bitmap = std::make_shared<memory::Bitmap>(4096);
  bitmap->set_range(0, 4096);
  scripted.endpoint->writer().set_max_bandwidth(uint64_t{64} << 20);
  WriteJob job;
  job.spans = {{0, 4096 * 4096, 0, 0}};
  job.bitmap = bitmap;
  scripted.endpoint->writer().submit(std::move(job), [](const WriteResult&) {});
  // Whichever came first has the first WRITE; the other is held.
  scripted.rail(0).settle();
  scripted.rail(1).settle();
  const size_t idle = scripted.rail(0).posted().empty() ? 0 : 1;
  const bool used = !scripted.rail(idle).posted().empty();
  scripted.rail(idle).end(nullptr);
  scripted.rail(idle).settle();
  if (used) return;
  const size_t before = scripted.rail(1 - idle).posted().size();
  scripted.rail(1 - idle).wait_posted(before + 2);
  CHECK(scripted.observer.ends() == 0);
}

TEST_CASE("rails that are not needed any more end nothing, whether they end later or have just ended") {
  for (const bool before : {true, false}) {
    Scripted scripted(2);
    scripted.endpoint->barrier(7);
    for (const size_t i : {0, 1}) {
      scripted.rail(i).wait_posted(1);
      fabric::Bytes answer = scripted.said(i);
      answer[3] = kPassed;
      CHECK(scripted.rail(i).receive(answer));
    }
    scripted.observer.wait_barriers(1);
    const Error reason("CONNECTION_LOST", "the peer has gone");
    if (!before) scripted.endpoint->release_rails();
    scripted.rail(1).end(&reason);
    scripted.rail(1).settle();
    if (before) scripted.endpoint->release_rails();
    // Longer than the control queue pair is given to say why a rail has ended.
    std::this_thread::sleep_for(std::chrono::milliseconds(700));
    CHECK(scripted.observer.ends() == 0);
    scripted.control().end(nullptr);
    CHECK(scripted.end().empty());
  }
}

}  // namespace
}  // namespace rdma_migrate::engine
