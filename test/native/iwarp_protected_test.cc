// Two ends of ours whose connection is protected.
#include <doctest/doctest.h>

#include <atomic>
#include <thread>

#include "iwarp/provider.h"
#include "support/cut_file.h"
#include "support/guest.h"
#include "support/protection.h"
#include "support/raw_peer.h"
#include "support/traffic.h"

using namespace rdma_migrate;
using namespace rdma_migrate::test;
using fabric::Opcode;

namespace {

constexpr size_t kSize = 3 << 20;

// Connected, protected, with memory that each may write to and read from at the other.
struct ProtectedPair {
  explicit ProtectedPair(uint64_t per_key = fabric::Protection::kRecordsPerKey, PairOptions options = {})
      : provider(iwarp::make_provider()), pair(*provider, options) {
    REQUIRE(has_libcrypto);
    local = std::make_unique<Buffer>(pair.active_domain, kSize, kRemoteAll);
    remote = std::make_unique<Buffer>(pair.passive_domain, kSize, kRemoteAll);
    pair.active->protect(active_protection(per_key));
    pair.passive->protect(passive_protection(per_key));
  }
  ~ProtectedPair() { pair.close(); }
  void write(size_t at, size_t size, uint64_t wr_id = 1) {
    REQUIRE(pair.active->post_send(
        rdma_of(Opcode::kRdmaWrite, *local, at, remote->address(at), remote->region->rkey(), size, wr_id)));
  }
  // From the passive end.
  void read(size_t at, size_t size) {
    REQUIRE(pair.passive->post_send(
        rdma_of(Opcode::kRdmaRead, *remote, at, local->address(at), local->region->rkey(), size)));
  }

  std::unique_ptr<fabric::Provider> provider;
  Pair pair;
  std::unique_ptr<Buffer> local;
  std::unique_ptr<Buffer> remote;
};

const size_t kSizes[] = {0,      1,      2,      3,      16,      500,       4096, 16'383,
                         16'384, 16'385, 61'440, 61'441, 262'144, 1'000'003, kSize};

std::string code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return "";
}

}  // namespace

TEST_CASE("SENDs, WRITEs and READs of all sizes pass through records, over changes of the key") {
  for (const uint64_t per_key : {uint64_t{1}, uint64_t{7}, fabric::Protection::kRecordsPerKey}) {
    CAPTURE(per_key);
    ProtectedPair ends(per_key);
    size_t count = 0;
    for (const size_t size : kSizes) {
      CAPTURE(size);
      ends.local->fill(pattern(size, size));
      std::fill(ends.remote->bytes.begin(), ends.remote->bytes.end(), uint8_t{0xee});
      ends.pair.passive->post_recv(recv_of(*ends.remote, 9));
      ends.pair.active->post_send(send_of(*ends.local, size));
      ends.pair.passive_events.wait_recvs(++count);
      CHECK(ends.pair.passive_events.recvs().back().byte_len == size);
      CHECK(std::equal(ends.local->bytes.begin(), ends.local->bytes.begin() + static_cast<ptrdiff_t>(size),
                       ends.remote->bytes.begin()));
      ends.local->fill(pattern(size, size + 1));
      ends.write(0, size);
      ends.pair.passive->post_recv(recv_of(*ends.remote, 9));
      ends.pair.active->post_send(send_of(*ends.local, 0));
      ends.pair.passive_events.wait_recvs(++count);
      CHECK(std::equal(ends.local->bytes.begin(), ends.local->bytes.begin() + static_cast<ptrdiff_t>(size),
                       ends.remote->bytes.begin()));
      ends.local->fill(pattern(size, size + 2));
      const size_t reads = ends.pair.passive_events.sends().size();
      ends.read(0, size);
      ends.pair.passive_events.wait_sends(reads + 1);
      CHECK(std::equal(ends.local->bytes.begin(), ends.local->bytes.begin() + static_cast<ptrdiff_t>(size),
                       ends.remote->bytes.begin()));
    }
  }
}

TEST_CASE("WRITEs and READs run both ways at the same time") {
  ProtectedPair ends(5);
  ends.local->fill(pattern(kSize, 1));
  constexpr size_t kHalf = kSize / 2;
  ends.remote->fill(pattern(kSize, 2));
  const fabric::Bytes kept(ends.remote->bytes.begin() + kHalf, ends.remote->bytes.end());
  for (size_t at = 0; at < kHalf; at += 65'536) ends.write(at, 65'536, at);
  for (size_t at = kHalf; at < kSize; at += 65'536) {
    REQUIRE(ends.pair.passive->post_send(rdma_of(
        Opcode::kRdmaWrite, *ends.remote, at, ends.local->address(at), ends.local->region->rkey(), 65'536)));
  }
  ends.pair.active->post_recv(recv_of(*ends.local));
  ends.pair.passive->post_recv(recv_of(*ends.remote));
  ends.pair.active->post_send(send_of(*ends.local, 0));
  ends.pair.passive->post_send(send_of(*ends.remote, 0));
  ends.pair.active_events.wait_recvs(1);
  ends.pair.passive_events.wait_recvs(1);
  CHECK(
      std::equal(ends.remote->bytes.begin(), ends.remote->bytes.begin() + kHalf, ends.local->bytes.begin()));
  CHECK(std::equal(kept.begin(), kept.end(), ends.local->bytes.begin() + kHalf));
}

TEST_CASE(
    "memory that changes while it is sent arrives as something that it was, and the records stay whole") {
  ProtectedPair ends;
  const Guest guest(ends.local->bytes);
  for (int round = 0; round < 20; ++round) ends.write(0, kSize);
  ends.pair.passive->post_recv(recv_of(*ends.remote));
  ends.pair.active->post_send(send_of(*ends.local, 0));
  ends.pair.passive_events.wait_recvs(1);
  CHECK(ends.pair.passive_events.closed() == 0);
}

TEST_CASE("what the socket does not take at once leaves later, in the same records") {
  ProtectedPair ends(3);
  ends.local->fill(pattern(kSize, 8));
  for (uint64_t round = 0; round < 30; ++round) ends.write(0, kSize, round);
  ends.pair.active->disconnect();
  ends.pair.passive_events.wait_closed();
  CHECK(ends.pair.passive_events.reason_text() == "an orderly end");
  CHECK(ends.remote->bytes == ends.local->bytes);
  CHECK(ends.pair.passive->counters().write_bytes_placed == 30 * kSize);
}

TEST_CASE("an end that has its keys before the handshake is protected from the first byte on") {
  const auto provider = iwarp::make_provider();
  for (const bool crc : {false, true}) {
    Acceptor acceptor(*provider);
    Recorder active_events, passive_events;
    const DomainPointer domain = open_domain(*provider);
    Buffer outbox(domain, 1000), inbox(domain, 1000);
    outbox.fill(pattern(1000, 1));
    fabric::QueuePairOptions options;
    options.crc = crc;
    const auto active = domain->create_queue_pair(options, active_events);
    active->protect(active_protection());
    active->post_send(send_of(outbox, 1000));  // waits
    active->connect(acceptor.endpoint(), {});
    const auto passive = domain->create_queue_pair({}, passive_events);
    passive->protect(passive_protection());
    CHECK(code_of([&] { passive->protect(passive_protection()); }) == "INVALID_ARGUMENT");
    passive->post_recv(recv_of(inbox));
    passive->accept(acceptor.next(), {}, true);
    passive_events.wait_recvs(1);
    CHECK(inbox.bytes == outbox.bytes);
    CHECK_FALSE(passive->info().crc);
    CHECK(passive->info().detail == "MPA revision 2, CRC32C off, AES-256-GCM records");
    active->close();
    passive_events.wait_closed();
    CHECK(passive_events.reason_text() == "an orderly end");
    passive->close();
  }
}

TEST_CASE("the owner who holds what comes may find out at its leisure when records begin") {
  // Message by message in the clear, the last one of each end with records right behind it.
  const auto provider = iwarp::make_provider();
  PairOptions options;
  options.active.hold_until_protected = options.passive.hold_until_protected = true;
  Pair pair(*provider, options);
  Buffer out(pair.active_domain, 64), back(pair.active_domain, 64);
  Buffer in(pair.passive_domain, 64), target(pair.passive_domain, 100'000, kRemoteAll);
  Buffer bulk(pair.active_domain, 100'000);
  bulk.fill(pattern(100'000, 1));
  for (int slot = 0; slot < 4; ++slot) pair.passive->post_recv(recv_of(in, static_cast<uint64_t>(slot)));
  pair.active->post_send(send_of(out, 5));
  pair.active->post_send(send_of(out, 6));
  pair.passive_events.wait_recvs(1);
  pair.active_events.wait_sends(2);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  CHECK(pair.passive_events.recvs().size() == 1);  // RECVs there are
  pair.active->protect(active_protection());
  pair.active->post_send(
      rdma_of(Opcode::kRdmaWrite, bulk, 0, target.address(), target.region->rkey(), 100'000));
  pair.active->post_send(send_of(out, 7));
  pair.active_events.wait_sends(4);
  pair.passive->resume_receive(false);
  pair.passive_events.wait_recvs(2);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  CHECK(pair.passive_events.recvs().size() == 2);
  pair.passive->protect(passive_protection());
  pair.passive_events.wait_recvs(3);
  CHECK(pair.passive_events.recvs()[2].byte_len == 7);
  CHECK(target.bytes == bulk.bytes);
  pair.close();
}

TEST_CASE("an end may be protected from inside the event of the last message in the clear") {
  const auto provider = iwarp::make_provider();
  std::atomic<fabric::QueuePair*> passive{nullptr};
  std::unique_ptr<Pair> pair;
  PairOptions options;
  options.prepare = [&](Pair& made) {
    passive = made.passive.get();
    made.passive_events.recv_hook = [&](const fabric::Completion& completion) {
      if (completion.byte_len == 1) passive.load()->protect(passive_protection());
    };
  };
  pair = std::make_unique<Pair>(*provider, options);
  Buffer out(pair->active_domain, 64), in(pair->passive_domain, 64);
  for (int slot = 0; slot < 60; ++slot) pair->passive->post_recv(recv_of(in));
  pair->active->post_send(send_of(out, 1));
  pair->active_events.wait_sends(1);
  pair->active->protect(active_protection());
  for (size_t size = 2; size < 9; ++size) pair->active->post_send(send_of(out, size));
  pair->passive_events.wait_recvs(8);
  CHECK(pair->passive_events.recvs().back().byte_len == 8);
  pair->close();
}

TEST_CASE("protect() at another moment is refused and changes nothing") {
  const auto provider = iwarp::make_provider();
  Pair pair(*provider);
  Buffer out(pair.active_domain, 8 << 20), in(pair.passive_domain, 8 << 20);
  const auto protect = [&] { pair.active->protect(active_protection()); };
  SUBCASE("something is not sent yet") {
    Buffer sink(pair.passive_domain, 8 << 20, kRemoteAll);
    for (int round = 0; round < 20; ++round)
      pair.active->post_send(
          rdma_of(Opcode::kRdmaWrite, out, 0, sink.address(), sink.region->rkey(), 8 << 20));
    CHECK(code_of(protect) == "INVALID_ARGUMENT");
    pair.active_events.wait_sends(20);
    pair.passive->post_recv(recv_of(in));
    pair.active->post_send(send_of(out, 9));
    pair.passive_events.wait_recvs(1);
    CHECK(pair.passive_events.recvs()[0].status == fabric::Status::kSuccess);
  }
  SUBCASE("twice") {
    protect();
    CHECK(code_of(protect) == "INVALID_ARGUMENT");
  }
  SUBCASE("a bad number of records") {
    for (const uint64_t per_key : {uint64_t{0}, fabric::Protection::kRecordsPerKey + 1})
      CHECK(code_of([&] { pair.active->protect(active_protection(per_key)); }) == "INVALID_ARGUMENT");
    CHECK(pair.active->info().detail == "MPA revision 2, CRC32C off");
  }
  SUBCASE("after the end") {
    pair.passive->close();
    pair.active_events.wait_closed();
    CHECK(code_of(protect) == "CONNECTION_CLOSED");
    pair.active->close();
    CHECK(code_of(protect) == "CONNECTION_CLOSED");
  }
  pair.close();
}

TEST_CASE("both ways to end in order are told from a cut") {
  for (const bool hard : {false, true}) {
    CAPTURE(hard);
    ProtectedPair ends(1);
    ends.pair.passive->post_recv(recv_of(*ends.remote));
    ends.pair.active->post_send(send_of(*ends.local, 100'000));
    if (hard) ends.pair.passive_events.wait_recvs(1);
    hard ? ends.pair.active->close() : ends.pair.active->disconnect();
    ends.pair.passive_events.wait_closed();
    CHECK(ends.pair.passive_events.reason_text() == "an orderly end");
    CHECK(ends.pair.passive_events.recvs().size() == 1);
    if (!hard) ends.pair.active_events.wait_closed();
    CHECK(ends.pair.active_events.reason_text() == "an orderly end");
  }
}

TEST_CASE("secrets that do not fit end both ends, and nothing is placed") {
  const auto provider = iwarp::make_provider();
  Pair pair(*provider);
  Buffer local(pair.active_domain, 100'000), remote(pair.passive_domain, 100'000, kRemoteAll, 0xee);
  pair.active->protect(active_protection());
  SUBCASE("other secrets") { pair.passive->protect(protection_of(3, 4)); }
  SUBCASE("the same direction") { pair.passive->protect(active_protection()); }
  pair.active->post_send(
      rdma_of(Opcode::kRdmaWrite, local, 0, remote.address(), remote.region->rkey(), 100'000));
  pair.passive_events.wait_closed();
  CHECK(pair.passive_events.reason_code() == "INTEGRITY_ERROR");
  pair.active_events.wait_closed();
  CHECK(pair.active_events.reason_code() != "");
  CHECK(remote.bytes == fabric::Bytes(100'000, 0xee));
  pair.close();
}

TEST_CASE("a WRITE that is refused is refused with its reason, inside records") {
  ProtectedPair ends;
  ends.pair.active->post_send(rdma_of(Opcode::kRdmaWrite, *ends.local, 0, ends.remote->address(kSize - 10),
                                      ends.remote->region->rkey(), 11));
  ends.pair.active_events.wait_closed();
  CHECK(ends.pair.active_events.reason_code() == "TERMINATE_RECEIVED");
  ends.pair.passive_events.wait_closed();
  CHECK(ends.pair.passive_events.reason_code() == "REMOTE_ACCESS_ERROR");
}

TEST_CASE("memory that is gone when its bytes are to be sealed fails that request, after those before it") {
  ProtectedPair ends;
  ends.pair.passive->post_recv(recv_of(*ends.remote));
  ends.pair.active->post_send(send_of(*ends.local, 77));
  ends.pair.passive_events.wait_recvs(1);
  constexpr size_t size = 2 * 4096;
  CutFile file(2);
  auto region = ends.pair.active_domain->register_memory(file.address(), size, 0);
  file.cut(1);
  fabric::SendWorkRequest bad =
      rdma_of(Opcode::kRdmaWrite, *ends.local, 0, ends.remote->address(), ends.remote->region->rkey(), size);
  bad.address = file.address();
  bad.lkey = region->lkey();
  ends.write(100, 50);
  ends.pair.active->post_send(bad);
  ends.pair.active_events.wait_closed();
  CHECK(ends.pair.active_events.reason_code() == "IO_ERROR");
  ends.pair.passive_events.wait_closed();
}
