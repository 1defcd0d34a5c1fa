// MPA's setup frames and TERMINATE payloads as bytes: whatever is taken can be said again.
#include <algorithm>

#include "driver.h"
#include "iwarp/handshake.h"
#include "iwarp/terminate.h"

namespace rdma_migrate::fuzz {
namespace {

using fabric::Bytes;
using iwarp::MpaFrame;
using iwarp::MpaKind;

MpaFrame any_frame(Random& random, MpaKind kind) {
  MpaFrame frame;
  frame.kind = kind;
  frame.revision = random.chance(80) ? 2 : 1;
  frame.enhanced = frame.revision == 2 && random.chance(80);
  frame.crc = random.chance(50);
  frame.markers = random.chance(5);
  frame.reject = random.chance(10);
  if (frame.enhanced) {
    frame.ird = static_cast<uint16_t>(random.hostile() & 0x3fff);
    frame.ord = static_cast<uint16_t>(random.hostile() & 0x3fff);
    frame.peer_to_peer = random.chance(30);
    frame.rtr_send = random.chance(30);
    frame.rtr_write = random.chance(30);
    frame.rtr_read = random.chance(30);
  }
  if (random.chance(70)) frame.private_data = random.bytes(random.below(max_private_data(frame) + 1));
  return frame;
}

class HandshakeTarget final : public Target {
 public:
  std::string name() const override { return "handshake"; }
  std::vector<std::string> reaches() const override {
    return {"undamaged", "taken", "MPA_ERROR", "REJECTED", "negotiated", "older revision", "TERMINATE known"};
  }
  uint64_t short_run() const override { return 50'000; }
  uint64_t play(Random& random, Hits& hits) override {
    if (random.chance(15)) return terminate(random, hits);
    const MpaKind kind = random.chance(50) ? MpaKind::kRequest : MpaKind::kReply;
    const bool damaged = random.chance(80);
    Bytes bytes = encode(any_frame(random, kind));
    if (damaged) mutate(random, bytes);
    try {
      const MpaFrame frame = iwarp::decode_mpa(bytes, kind);
      ++hits[damaged ? "taken" : "undamaged"];
      // Reserved bits of revision 1 and of the flags are not said again.
      const Bytes again = encode(frame);
      if (again.size() != bytes.size() || !std::equal(again.begin() + 17, again.end(), bytes.begin() + 17))
        throw Finding("an MPA frame that was read is said differently");
      negotiate(random, hits, frame);
    } catch (const Error& error) {
      if (error.code() != "MPA_ERROR" || !damaged) throw;
      ++hits["MPA_ERROR"];
    }
    return 1;
  }

 private:
  static uint64_t terminate(Random& random, Hits& hits) {
    const Bytes payload = random.bytes(random.below(60));
    if (describe(iwarp::decode_terminate(payload)).find('(') != std::string::npos) ++hits["TERMINATE known"];
    return 1;
  }
  static void negotiate(Random& random, Hits& hits, const MpaFrame& frame) {
    fabric::QueuePairOptions options;
    options.crc = random.chance(50);
    if (frame.kind == MpaKind::kRequest) {
      const MpaFrame reply = make_reply(frame, options, {}, random.chance(10));
      check_bounds(negotiated_by_responder(frame, reply));
      decode_mpa(encode(reply), MpaKind::kReply);
      ++hits["negotiated"];
      return;
    }
    const MpaFrame request = iwarp::make_request(options, {}, random.chance(80) ? 2 : 1);
    if (worth_older_revision(request, frame)) ++hits["older revision"];
    try {
      check_reply(request, frame, "the fuzzer");
      check_bounds(negotiated_by_initiator(request, frame));
      ++hits["negotiated"];
    } catch (const Error& error) {
      if (error.code() != "REJECTED" && error.code() != "MPA_ERROR") throw;
      ++hits[error.code()];
    }
  }
  static void check_bounds(const iwarp::Negotiated& result) {
    if (result.ird > iwarp::kReadDepth || result.ord > iwarp::kReadDepth)
      throw Finding("a read depth beyond what we take");
  }
};

}  // namespace

std::unique_ptr<Target> handshake_target() { return std::make_unique<HandshakeTarget>(); }

}  // namespace rdma_migrate::fuzz
