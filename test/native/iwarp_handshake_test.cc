// MPA setup with peers of every kind: older revisions, ready-to-receive variants, markers, slow and silent
// ones, floods.
#include <doctest/doctest.h>

#include "iwarp/provider.h"
#include "support/pair.h"
#include "support/raw_peer.h"
#include "support/requests.h"

using namespace rdma_migrate;
using namespace rdma_migrate::test;
using iwarp::MpaFrame;
using iwarp::MpaKind;

namespace {

MpaFrame request_frame(uint8_t revision, const Bytes& private_data) {
  MpaFrame frame;
  frame.revision = revision;
  frame.enhanced = revision == 2;
  frame.ord = 2;
  frame.private_data = private_data;
  return frame;
}

MpaFrame reply_frame(uint8_t revision, const Bytes& private_data) {
  MpaFrame frame = request_frame(revision, private_data);
  frame.kind = MpaKind::kReply;
  frame.ird = 2;
  return frame;
}

// Our active end, asked by a raw responder.
struct Initiator {
  explicit Initiator(fabric::QueuePairOptions options = {})
      : domain(open_domain(*iwarp::make_provider())),
        queue_pair(domain->create_queue_pair(options, events)) {}
  void connect(const Bytes& private_data = {}) { queue_pair->connect(listener.endpoint(), private_data); }
  RawListener listener;
  Recorder events;
  DomainPointer domain;
  std::unique_ptr<fabric::QueuePair> queue_pair;
};

// Our passive end: an acceptor, and what becomes of its next request.
struct Responder {
  explicit Responder(const fabric::QueuePairOptions& given = {})
      : options(given), provider(iwarp::make_provider()), acceptor(*provider, given) {}
  void accept(const Bytes& private_data = {}, bool may_send_at_once = false) {
    domain = open_domain(*provider);
    queue_pair = domain->create_queue_pair(options, events);
    inbox = std::make_unique<Buffer>(domain, 64);
    queue_pair->post_recv(recv_of(*inbox));
    queue_pair->accept(acceptor.next(), private_data, may_send_at_once);
  }
  ~Responder() { inbox.reset(); }
  fabric::QueuePairOptions options;
  std::unique_ptr<fabric::Provider> provider;
  Acceptor acceptor;
  Recorder events;
  DomainPointer domain;
  std::unique_ptr<fabric::QueuePair> queue_pair;
  std::unique_ptr<Buffer> inbox;
};

}  // namespace

TEST_CASE("the initiator asks for revision 2 with depths, and for CRC only when told") {
  for (bool crc : {false, true}) {
    fabric::QueuePairOptions options;
    options.crc = crc;
    Initiator initiator(options);
    initiator.connect(pattern(8, 1));
    RawPeer peer = initiator.listener.accept();
    MpaFrame request = peer.receive_mpa(MpaKind::kRequest);
    CHECK(request.revision == 2);
    CHECK(request.enhanced);
    CHECK(request.crc == crc);
    CHECK_FALSE(request.markers);
    CHECK_FALSE(request.peer_to_peer);
    CHECK(request.private_data == pattern(8, 1));
  }
}

TEST_CASE("CRC is in use when either side wants it") {
  for (bool ours : {false, true}) {
    for (bool theirs : {false, true}) {
      fabric::QueuePairOptions options;
      options.crc = ours;
      Initiator initiator(options);
      initiator.connect();
      RawPeer peer = initiator.listener.accept();
      peer.receive_mpa(MpaKind::kRequest);
      MpaFrame reply = reply_frame(2, {});
      reply.crc = theirs;
      peer.send(iwarp::encode(reply));
      initiator.events.wait_established();
      CHECK(initiator.queue_pair->info().crc == (ours || theirs));
      Responder responder(options);
      RawPeer asker(responder.acceptor.endpoint());
      MpaFrame request = request_frame(2, {});
      request.crc = theirs;
      asker.send(iwarp::encode(request));
      responder.accept();
      CHECK(asker.receive_mpa(MpaKind::kReply).crc == (ours || theirs));
      initiator.queue_pair->close();
      responder.queue_pair->close();
    }
  }
}

TEST_CASE("FPDUs right after the reply are received, however the bytes are cut") {
  Bytes reply = iwarp::encode(reply_frame(2, pattern(8, 2)));
  Bytes stream = reply + fpdu(send_header(1), pattern(16, 3));
  for (size_t cut = 0; cut <= stream.size(); ++cut) {
    CAPTURE(cut);
    Initiator initiator;
    Buffer inbox(initiator.domain, 64);
    initiator.queue_pair->post_recv(recv_of(inbox));
    initiator.connect();
    RawPeer peer = initiator.listener.accept();
    peer.receive_mpa(MpaKind::kRequest);
    auto at = stream.begin() + static_cast<ptrdiff_t>(cut);
    peer.send(Bytes(stream.begin(), at));
    if (cut % 4 == 0) std::this_thread::sleep_for(std::chrono::microseconds(300));
    peer.send(Bytes(at, stream.end()));
    initiator.events.wait_recvs(1);
    CHECK(initiator.events.private_data() == pattern(8, 2));
    CHECK(initiator.events.recvs()[0].byte_len == 16);
    initiator.queue_pair->close();
  }
}

TEST_CASE("a revision 1 responder is taken") {
  Initiator initiator;
  initiator.connect();
  RawPeer peer = initiator.listener.accept();
  peer.receive_mpa(MpaKind::kRequest);
  peer.send(iwarp::encode(reply_frame(1, pattern(8, 1))));
  initiator.events.wait_established();
  CHECK(initiator.events.private_data() == pattern(8, 1));
  CHECK(initiator.queue_pair->info().detail == "MPA revision 1, CRC32C off");
}

TEST_CASE("a responder that refuses revision 2 is asked again in revision 1") {
  Initiator initiator;
  initiator.connect(pattern(8, 4));
  {
    RawPeer peer = initiator.listener.accept();
    peer.receive_mpa(MpaKind::kRequest);
    MpaFrame reply = reply_frame(1, {});
    reply.reject = true;
    peer.send(iwarp::encode(reply));
  }
  RawPeer peer = initiator.listener.accept();
  MpaFrame request = peer.receive_mpa(MpaKind::kRequest);
  CHECK(request.revision == 1);
  CHECK(request.private_data == pattern(8, 4));
  SUBCASE("and takes it") {
    peer.send(iwarp::encode(reply_frame(1, {})));
    initiator.events.wait_established();
  }
  SUBCASE("and refuses that too") {
    MpaFrame reply = reply_frame(1, {});
    reply.reject = true;
    peer.send(iwarp::encode(reply));
    initiator.events.wait_closed();
    CHECK(initiator.events.reason_code() == "REJECTED");
  }
}

TEST_CASE("the responder answers in the revision it was asked in") {
  for (uint8_t revision : {uint8_t{1}, uint8_t{2}}) {
    for (size_t size : {size_t{0}, size_t{8}, size_t{508}}) {
      Responder responder;
      RawPeer peer(responder.acceptor.endpoint());
      peer.send(iwarp::encode(request_frame(revision, pattern(size, 1))));
      responder.accept(pattern(size, 2));
      MpaFrame reply = peer.receive_mpa(MpaKind::kReply);
      CHECK(reply.revision == revision);
      CHECK(reply.enhanced == (revision == 2));
      CHECK(reply.private_data == pattern(size, 2));
      responder.events.wait_established();
      CHECK(responder.events.private_data() == pattern(size, 1));
      responder.queue_pair->close();
    }
  }
}

TEST_CASE("private data that does not fit is refused at the call") {
  Initiator initiator;
  CHECK_THROWS_AS(initiator.connect(Bytes(509)), Error);
  CHECK_NOTHROW(initiator.connect(Bytes(508)));
  CHECK_THROWS_AS(initiator.connect(), Error);
  Responder responder;
  RawPeer peer(responder.acceptor.endpoint());
  peer.send(iwarp::encode(request_frame(2, {})));
  SUBCASE("of an answer, which then is a rejection") { CHECK_THROWS_AS(responder.accept(Bytes(509)), Error); }
  SUBCASE("of a rejection, which can be made again") {
    auto request = responder.acceptor.next();
    CHECK_THROWS_AS(request->reject(Bytes(509)), Error);
    request->reject(Bytes(508));
    Recorder events;
    auto late = initiator.domain->create_queue_pair({}, events);
    CHECK_THROWS_AS(late->accept(std::move(request), {}, false), Error);
  }
  SUBCASE("and one end cannot be both") {
    CHECK_THROWS_AS(initiator.queue_pair->accept(responder.acceptor.next(), {}, false), Error);
  }
  CHECK(peer.receive_mpa(MpaKind::kReply).reject);
}

TEST_CASE("bad replies end in MPA_ERROR with a reason") {
  auto reason = [](const Bytes& answer, const char* expected_code) {
    Initiator initiator;
    initiator.connect();
    RawPeer peer = initiator.listener.accept();
    peer.receive_mpa(MpaKind::kRequest);
    peer.send(answer);
    peer.finish();
    initiator.events.wait_closed();
    CHECK(initiator.events.reason_code() == expected_code);
    CHECK(initiator.events.reason_text().find("127.0.0.1:") != std::string::npos);
    return initiator.events.reason_text();
  };
  MpaFrame markers = reply_frame(2, {});
  markers.markers = true;
  CHECK(reason(iwarp::encode(markers), "MPA_ERROR").find("markers") != std::string::npos);
  Bytes strange = iwarp::encode(reply_frame(2, {}));
  strange[0] = 'X';
  reason(strange, "MPA_ERROR");
  Bytes revision = iwarp::encode(reply_frame(2, {}));
  revision[17] = 3;
  reason(revision, "MPA_ERROR");
  Bytes length = iwarp::encode(reply_frame(2, {}));
  length[18] = 0x02;
  length[19] = 0x01;
  reason(length + Bytes(513), "MPA_ERROR");
  reason(iwarp::encode(request_frame(2, {})), "MPA_ERROR");
  reason({}, "CONNECTION_LOST");
  Bytes cut = iwarp::encode(reply_frame(2, pattern(8, 1)));
  cut.pop_back();
  reason(cut, "CONNECTION_LOST");
  MpaFrame rejected = reply_frame(2, pattern(8, 1));
  rejected.reject = true;
  CHECK(reason(iwarp::encode(rejected), "REJECTED").find("8 bytes of private data") != std::string::npos);
}

TEST_CASE("a responder that says nothing runs into the connect timeout, and close does not wait for it") {
  fabric::QueuePairOptions options;
  options.connect_timeout_ms = 150;
  SUBCASE("timeout") {
    Initiator initiator(options);
    initiator.connect();
    RawPeer peer = initiator.listener.accept();
    peer.send({'M', 'P', 'A'});
    initiator.events.wait_closed();
    CHECK(initiator.events.reason_code() == "TIMEOUT");
  }
  SUBCASE("close") {
    options.connect_timeout_ms = 600'000;
    Initiator initiator(options);
    initiator.connect();
    RawPeer peer = initiator.listener.accept();
    initiator.queue_pair->close();
    CHECK(initiator.events.closed() == 1);
    CHECK(initiator.events.reason_code() == "");
  }
}

TEST_CASE("a request that demands markers is refused") {
  Responder responder;
  RawPeer peer(responder.acceptor.endpoint());
  MpaFrame request = request_frame(2, {});
  request.markers = true;
  peer.send(iwarp::encode(request));
  MpaFrame reply = peer.receive_mpa(MpaKind::kReply);
  CHECK(reply.reject);
  CHECK(peer.at_end());
  CHECK(responder.acceptor.waiting() == 0);
}

TEST_CASE("bad requests are dropped and do not disturb others") {
  Responder responder;
  std::vector<Bytes> bad;
  bad.push_back(Bytes(20, 'x'));
  bad.push_back(iwarp::encode(reply_frame(2, {})));
  bad.push_back(iwarp::encode(request_frame(2, {})));
  bad.back()[17] = 0;
  bad.push_back(iwarp::encode(request_frame(2, {})));
  bad.back()[18] = 0xff;
  bad.push_back(iwarp::encode(request_frame(1, {})));
  bad.back()[16] = 0x10;
  bad.back()[17] = 2;
  for (const Bytes& bytes : bad) {
    RawPeer peer(responder.acceptor.endpoint());
    peer.send(bytes);
    CHECK(peer.at_end());
  }
  RawPeer peer(responder.acceptor.endpoint());
  peer.send(iwarp::encode(request_frame(2, {})));
  responder.accept();
  CHECK_FALSE(peer.receive_mpa(MpaKind::kReply).reject);
}

TEST_CASE("a request may drip in byte by byte") {
  Responder responder;
  RawPeer peer(responder.acceptor.endpoint());
  peer.send_in_pieces(iwarp::encode(request_frame(2, pattern(8, 1))), 1, std::chrono::microseconds(200));
  responder.accept();
  CHECK_FALSE(peer.receive_mpa(MpaKind::kReply).reject);
}

TEST_CASE("silent peers are dropped at the deadline") {
  fabric::QueuePairOptions options;
  options.connect_timeout_ms = 100;
  Responder responder(options);
  RawPeer silent(responder.acceptor.endpoint());
  silent.send({'M', 'P', 'A'});
  CHECK(silent.at_end());
}

TEST_CASE("a flood of silent peers does not keep an honest one out") {
  Responder responder;
  std::vector<RawPeer> silent;
  for (int count = 0; count < 60; ++count) silent.emplace_back(responder.acceptor.endpoint());
  RawPeer honest(responder.acceptor.endpoint());
  honest.send(iwarp::encode(request_frame(2, {})));
  responder.accept();
  CHECK_FALSE(honest.receive_mpa(MpaKind::kReply).reject);
  CHECK(silent[0].at_end());
}

TEST_CASE("the responder's first message keeps clear of its reply, unless the initiator has spoken") {
  for (bool speaks : {false, true}) {
    CAPTURE(speaks);
    Responder responder;
    RawPeer peer(responder.acceptor.endpoint());
    peer.send(iwarp::encode(request_frame(2, {})));
    const auto started = std::chrono::steady_clock::now();
    responder.accept();
    Buffer outbox(responder.domain, 16, 0, 0x5a);
    REQUIRE(responder.queue_pair->post_send(send_of(outbox, 16)));
    peer.receive_mpa(MpaKind::kReply);
    if (speaks) {
      peer.send(fpdu(send_header(1), pattern(16, 3)));
      responder.events.wait_recvs(1);
      // What is posted next finds the way free.
      REQUIRE(responder.queue_pair->post_send(send_of(outbox, 16)));
    }
    CHECK(peer.receive_fpdu().payload == outbox.bytes);
    const auto passed = std::chrono::steady_clock::now() - started;
    if (!speaks) CHECK(passed >= std::chrono::milliseconds(200));
    responder.queue_pair->close();
  }
}

TEST_CASE("a peer-to-peer initiator's ready-to-receive message comes first, in each of its forms") {
  enum class Form { kSend, kWrite, kRead, kEmptyFpdu, kOrdinarySend };
  for (Form form : {Form::kSend, Form::kWrite, Form::kRead, Form::kEmptyFpdu, Form::kOrdinarySend}) {
    CAPTURE(static_cast<int>(form));
    Responder responder;
    RawPeer peer(responder.acceptor.endpoint());
    MpaFrame request = request_frame(2, {});
    request.peer_to_peer = true;
    request.rtr_send = form == Form::kSend || form == Form::kEmptyFpdu;
    request.rtr_write = form == Form::kWrite || form == Form::kOrdinarySend;
    request.rtr_read = form == Form::kRead;
    peer.send(iwarp::encode(request));
    responder.accept();
    Buffer outbox(responder.domain, 16, 0, 0x5a);
    responder.queue_pair->post_send(send_of(outbox, 16));
    MpaFrame reply = peer.receive_mpa(MpaKind::kReply);
    CHECK(reply.peer_to_peer);
    CHECK(reply.rtr_send == request.rtr_send);
    CHECK(reply.rtr_write == request.rtr_write);
    CHECK(reply.rtr_read == request.rtr_read);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    CHECK_FALSE(responder.events.established());
    uint32_t next_msn = 1;
    switch (form) {
      case Form::kSend:
        peer.send(fpdu(send_header(next_msn++), {}));
        break;
      case Form::kWrite:
        peer.send(fpdu(write_header(0, 0), {}));
        break;
      case Form::kRead:
        peer.send(fpdu(read_header(1), read_payload({})));
        break;
      case Form::kEmptyFpdu:
        peer.send(Bytes(8));
        break;
      case Form::kOrdinarySend:
        break;
    }
    peer.send(fpdu(send_header(next_msn), pattern(5, 1)));
    responder.events.wait_established();
    responder.events.wait_recvs(1);
    CHECK(responder.events.recvs()[0].byte_len == 5);
    RawPeer::Fpdu first = peer.receive_fpdu();
    if (form == Form::kRead) {
      // The answer to the READ may come before or after the SEND.
      RawPeer::Fpdu second = peer.receive_fpdu();
      CHECK(first.header.opcode + second.header.opcode == 2 + 3);
    } else {
      CHECK(first.header.opcode == 3);
    }
    responder.events.wait_sends(1);
    responder.queue_pair->close();
  }
}

TEST_CASE(
    "a peer-to-peer initiator whose first message breaks the rules is connected first, and then refused") {
  Responder responder;
  RawPeer peer(responder.acceptor.endpoint());
  MpaFrame request = request_frame(2, {});
  request.peer_to_peer = request.rtr_write = true;
  peer.send(iwarp::encode(request));
  responder.accept();
  peer.receive_mpa(MpaKind::kReply);
  peer.send(fpdu(write_header(1, 1), pattern(16, 1)));
  CHECK(peer.receive_terminate() == iwarp::TerminateCode::kTaggedInvalidStag);
  peer.close();
  responder.events.wait_closed();
  CHECK(responder.events.established());
  CHECK(responder.events.reason_code() == "REMOTE_ACCESS_ERROR");
}

TEST_CASE("a peer-to-peer initiator that sends no ready-to-receive message runs into the deadline") {
  fabric::QueuePairOptions options;
  options.connect_timeout_ms = 150;
  Responder responder(options);
  RawPeer peer(responder.acceptor.endpoint());
  MpaFrame request = request_frame(2, {});
  request.peer_to_peer = request.rtr_write = true;
  peer.send(iwarp::encode(request));
  responder.accept();
  responder.events.wait_closed();
  CHECK(responder.events.reason_code() == "TIMEOUT");
}

TEST_CASE("what was posted before a disconnect during the handshake has its time after it") {
  constexpr size_t kSize = 32 << 20;  // more than sockets hold
  fabric::QueuePairOptions options;
  options.stall_timeout_ms = 1000;
  Initiator initiator(options);
  Buffer large(initiator.domain, kSize);
  REQUIRE(initiator.queue_pair->post_send(send_of(large, kSize)));
  initiator.connect();
  RawPeer peer = initiator.listener.accept();
  peer.receive_mpa(MpaKind::kRequest);
  initiator.queue_pair->disconnect();
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));
  CHECK(initiator.queue_pair->state() == fabric::QueuePairState::kInit);
  peer.send(iwarp::encode(reply_frame(2, {})));
  initiator.events.wait_established();
  CHECK(initiator.queue_pair->state() == fabric::QueuePairState::kSqd);
  while (peer.receive(1 << 20).size() == 1 << 20) continue;
  peer.close();
  initiator.events.wait_closed();
  CHECK(initiator.events.reason_text() == "an orderly end");
  CHECK(initiator.events.sends().at(0).status == fabric::Status::kSuccess);
  initiator.queue_pair->close();
}

TEST_CASE(
    "a READ that was posted before the peer said that it takes none fails, and what was before it is sent") {
  Initiator initiator;
  Buffer buffer(initiator.domain, 64);
  const auto read = rdma_of(fabric::Opcode::kRdmaRead, buffer, 0, 4096, 1, 64, 2);
  REQUIRE(initiator.queue_pair->post_send(send_of(buffer, 64, 1)));
  REQUIRE(initiator.queue_pair->post_send(read));
  REQUIRE(initiator.queue_pair->post_send(send_of(buffer, 64, 3)));
  initiator.connect();
  RawPeer peer = initiator.listener.accept();
  peer.receive_mpa(MpaKind::kRequest);
  MpaFrame reply = reply_frame(2, {});
  reply.ird = 0;
  peer.send(iwarp::encode(reply));
  CHECK(peer.receive_fpdu().payload.size() == 64);
  initiator.events.wait_closed();
  CHECK(initiator.events.reason_code() == "INVALID_ARGUMENT");
  const auto sends = initiator.events.sends();
  REQUIRE(sends.size() == 3);
  CHECK(sends[0].status == fabric::Status::kSuccess);
  CHECK(sends[1].status == fabric::Status::kError);
  CHECK(sends[1].wr_id == 2);
  CHECK(sends[2].status == fabric::Status::kFlushed);
  initiator.queue_pair->close();
}
