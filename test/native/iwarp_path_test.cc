// What a message costs on its way: pauses, segments, system calls.
#include <doctest/doctest.h>
#include <sys/syscall.h>

#include <algorithm>
#include <atomic>

#include "support/victim.h"

using namespace rdma_migrate;
using namespace rdma_migrate::test;

namespace {

std::atomic<int> receives{0};

}  // namespace

// The core's calls, counted.
extern "C" ssize_t recv(int fd, void* to, size_t size, int flags) {
  ++receives;
  return syscall(SYS_recvfrom, fd, to, size, flags, nullptr, nullptr);
}
extern "C" ssize_t recvmsg(int fd, msghdr* message, int flags) {
  ++receives;
  return syscall(SYS_recvmsg, fd, message, flags);
}

TEST_CASE("the first message to a peer that takes it at once comes without a pause") {
  auto best = std::chrono::steady_clock::duration::max();
  for (int round = 0; round < 8; ++round) {
    const auto provider = iwarp::make_provider();
    Acceptor acceptor(*provider);
    RawPeer peer(acceptor.endpoint());
    const DomainPointer domain = open_domain(*provider);
    Recorder events;
    const auto queue_pair = domain->create_queue_pair({}, events);
    Buffer outbox(domain, 16, 0, 0x5a);
    REQUIRE(queue_pair->post_send(send_of(outbox, 16)));
    peer.send(iwarp::encode(iwarp::MpaFrame{}));
    const auto started = std::chrono::steady_clock::now();
    queue_pair->accept(acceptor.next(), {}, true);
    peer.receive_mpa(iwarp::MpaKind::kReply);
    CHECK(peer.receive_fpdu().payload == outbox.bytes);
    best = std::min(best, std::chrono::steady_clock::now() - started);
    queue_pair->close();
  }
  CHECK(best < std::chrono::milliseconds(200));
}

TEST_CASE("small FPDUs that have come together are received together") {
  constexpr size_t kWrites = 100;
  constexpr size_t kSize = 1400;
  Victim victim;
  victim.peer.send(fpdu(send_header(1), pattern(100, 1)));
  victim.events.wait_recvs(1);
  Bytes stream;
  for (size_t at = 0; at < kWrites; ++at)
    stream = stream + fpdu(write_header(victim.region->region->rkey(), victim.region->address(at * kSize)),
                           pattern(kSize, at));
  const int before = receives;
  victim.peer.send(stream);
  victim.peer.send(fpdu(send_header(2), {}));
  victim.events.wait_recvs(2);
  const int needed = receives - before;
  CAPTURE(needed);
  CHECK(needed < static_cast<int>(kWrites));
  for (size_t at = 0; at < kWrites; ++at) {
    const auto begin = victim.region->bytes.begin() + static_cast<ptrdiff_t>(at * kSize);
    CHECK(Bytes(begin, begin + kSize) == pattern(kSize, at));
  }
}

TEST_CASE("a small message is received with one call, header and all") {
  constexpr int kMessages = 20;
  Victim victim(
      {},
      [] {
        fabric::QueuePairOptions options;
        options.max_recv_wr = kMessages;
        return options;
      }(),
      kMessages);
  const int before = receives;
  for (int message = 1; message <= kMessages; ++message) {
    victim.peer.send(fpdu(send_header(static_cast<uint32_t>(message)), pattern(100, 1)));
    victim.events.wait_recvs(static_cast<size_t>(message));
  }
  const int needed = receives - before;
  CAPTURE(needed);
  CHECK(needed <= kMessages + 2);
}

TEST_CASE("an FPDU fits into a TCP segment, unless the peer is known to take larger ones") {
  constexpr int kSegment = 1000;
  constexpr uint32_t kSize = 100'000;
  for (const bool known : {false, true}) {
    for (const bool crc : {false, true}) {
      CAPTURE(known);
      CAPTURE(crc);
      const auto provider = iwarp::make_provider();
      Acceptor acceptor(*provider);
      RawPeer peer(acceptor.endpoint(), kSegment);
      iwarp::MpaFrame request;
      request.crc = crc;
      peer.send(iwarp::encode(request));
      const DomainPointer domain = open_domain(*provider);
      Recorder events;
      const auto queue_pair = domain->create_queue_pair({}, events);
      Buffer outbox(domain, kSize);
      outbox.fill(pattern(kSize, 3));
      queue_pair->accept(acceptor.next(), {}, false);
      peer.receive_mpa(iwarp::MpaKind::kReply);
      if (known) queue_pair->allow_large_segments();
      REQUIRE(queue_pair->post_send(rdma_of(fabric::Opcode::kRdmaWrite, outbox, 0, 0x1000, 1, kSize)));
      Bytes received;
      size_t longest = 0;
      while (received.size() < kSize) {
        const RawPeer::Fpdu fpdu = peer.receive_fpdu();
        CHECK(fpdu.header.target_offset == 0x1000 + received.size());
        if (crc) CHECK(fpdu.crc_good);
        received = received + fpdu.payload;
        longest = std::max(longest, iwarp::fpdu_size(iwarp::kTaggedSize + fpdu.payload.size()));
      }
      CHECK(received == outbox.bytes);
      if (known) CHECK(longest > 60'000);
      if (!known) CHECK((longest > kSegment / 2 && longest <= kSegment));
      queue_pair->close();
    }
  }
}
