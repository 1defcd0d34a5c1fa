// A resumable queue pair of ours whose peer is raw, and may attach.
#pragma once

#include "iwarp/handshake.h"
#include "iwarp/resume_frames.h"
#include "support/libcrypto.h"
#include "support/victim.h"

namespace rdma_migrate::test {

using iwarp::Control;
using iwarp::Positions;

inline fabric::QueuePairOptions resumable(uint32_t window_ms = 20'000) {
  REQUIRE(has_libcrypto);
  fabric::QueuePairOptions options;
  options.resume_window_ms = window_ms;
  options.resume_retry_ms = 5;
  options.movable = true;
  return options;
}

inline iwarp::MpaFrame asking_request() {
  iwarp::MpaFrame request;
  request.enhanced = true;
  request.ird = request.ord = 4;
  iwarp::append_ask(request.private_data);
  return request;
}

// A raw initiator of a resumable queue pair.
struct ResumableVictim {
  explicit ResumableVictim(uint32_t window_ms = 20'000) : ResumableVictim(resumable(window_ms)) {}
  explicit ResumableVictim(const fabric::QueuePairOptions& options) : victim(asking_request(), options) {
    const auto tail = iwarp::take_tail(victim.reply.private_data);
    REQUIRE(tail);
    terms = *tail;
    victim.events.wait_established();
  }
  void send_control(uint32_t msn, const Bytes& payload) {
    victim.peer.send(fpdu(iwarp::control_header(msn), payload));
  }
  static Bytes ack(uint64_t rx_seq) {
    Bytes payload(iwarp::kAckSize);
    iwarp::encode_ack(rx_seq, std::span<uint8_t, iwarp::kAckSize>(payload.data(), payload.size()));
    return payload;
  }
  // The victim's SEND, which the raw peer has taken.
  void take_send(uint64_t wr_id) {
    REQUIRE(victim.queue_pair->post_send(send_of(*victim.region, 100, wr_id)));
    CHECK(victim.peer.receive_fpdu().payload.size() == 100);
  }
  iwarp::ResumeContext context(uint64_t epoch) const {
    return {terms.ticket, terms.id, epoch, iwarp::random_bits(), {}};
  }

  Victim victim;
  iwarp::ResumeTail terms;
};

// A raw peer that attaches: up to RESUME.
struct RawAttach {
  RawAttach(ResumableVictim& of, iwarp::ResumeContext with)
      : context(std::move(with)), peer(of.victim.acceptor.endpoint()) {
    iwarp::MpaFrame request;
    request.enhanced = true;
    request.private_data = iwarp::encode_attach({context.id, context.epoch, context.asked});
    peer.send(iwarp::encode(request));
  }
  iwarp::MpaFrame hear_reply() {
    iwarp::MpaFrame reply = peer.receive_mpa(iwarp::MpaKind::kReply);
    if (const auto answer = iwarp::decode_attach(reply.private_data)) context.answered = answer->nonce;
    return reply;
  }
  Bytes resume(const Positions& positions) {
    hear_reply();
    Bytes said = iwarp::encode_resume(Control::kResume, context, positions);
    peer.send(said);
    return said;
  }
  std::optional<Positions> hear_resumed() {
    return iwarp::decode_resume(Control::kResumed, context, peer.receive(iwarp::kResumeFpdu));
  }
  iwarp::ResumeContext context;
  RawPeer peer;
};

}  // namespace rdma_migrate::test
