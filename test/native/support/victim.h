// Our passive end, which has shaken hands with a raw peer that may send it any bytes.
#pragma once

#include <doctest/doctest.h>

#include "iwarp/provider.h"
#include "support/pair.h"
#include "support/raw_peer.h"
#include "support/requests.h"

namespace rdma_migrate::test {

using iwarp::TerminateCode;

// A region with all remote rights, RECVs of 1000 bytes, and the raw initiator.
struct Victim {
  static constexpr size_t kSize = 256 * 1024;

  explicit Victim(iwarp::MpaFrame request = {}, fabric::QueuePairOptions options = {}, size_t recvs = 2)
      : provider(iwarp::make_provider()), acceptor(*provider, options), peer(acceptor.endpoint()) {
    peer.send(iwarp::encode(request));
    domain = open_domain(*provider);
    queue_pair = domain->create_queue_pair(options, events);
    region = std::make_unique<Buffer>(domain, kSize, kRemoteAll, 0xee);
    inbox = std::make_unique<Buffer>(domain, 1000, fabric::kAccessLocalWrite, 0xee);
    for (size_t count = 0; count < recvs; ++count) queue_pair->post_recv(recv_of(*inbox, count));
    queue_pair->accept(acceptor.next(), {}, false);
    reply = peer.receive_mpa(iwarp::MpaKind::kReply);
  }
  ~Victim() { queue_pair->close(); }
  static Victim with_crc() {
    iwarp::MpaFrame request;
    request.crc = true;
    return Victim(request);
  }
  bool untouched() const { return region->bytes == Bytes(kSize, 0xee) && inbox->bytes == Bytes(1000, 0xee); }
  void expect(TerminateCode code, const std::string& error) {
    CHECK(peer.receive_terminate() == code);
    CHECK(peer.terminate.crc_good == reply.crc);
    CHECK(peer.at_end());
    peer.close();
    events.wait_closed();
    CHECK(events.reason_code() == error);
  }

  std::unique_ptr<fabric::Provider> provider;
  Acceptor acceptor;
  Recorder events;
  RawPeer peer;
  DomainPointer domain;
  std::unique_ptr<fabric::QueuePair> queue_pair;
  std::unique_ptr<Buffer> region;
  std::unique_ptr<Buffer> inbox;
  iwarp::MpaFrame reply;
};

}  // namespace rdma_migrate::test
