// Whole connections over TCP, in both roles of MPA's setup: the hostile end sends a damaged request or reply
// and damaged frames right after it. Slower than the receiver alone, so for a share of the time.
#include "driver.h"
#include "iwarp/handshake.h"
#include "iwarp/provider.h"
#include "scene.h"
#include "support/pair.h"
#include "support/raw_peer.h"

namespace rdma_migrate::fuzz {
namespace {

using namespace rdma_migrate::test;
using fabric::Bytes;
using iwarp::MpaFrame;
using iwarp::MpaKind;

class ConnectionsTarget final : public Target {
 public:
  ConnectionsTarget() {
    options_.connect_timeout_ms = 5000;
    acceptor_ = std::make_unique<Acceptor>(*provider_, options_, "127.0.0.1");
  }
  std::string name() const override { return "connections"; }
  std::vector<std::string> reaches() const override {
    return {"we answer",       "we ask",     "established",       "never established", "ended in order",
            "MPA_ERROR",       "REJECTED",   "CRC_ERROR",         "WIRE_ERROR",        "REMOTE_ACCESS_ERROR",
            "CONNECTION_LOST", "no request", "TERMINATE_RECEIVED"};
  }
  uint64_t short_run() const override { return 3000; }

  uint64_t play(Random& random, Hits& hits) override {
    scene_.arena.restore();
    Recorder events;
    const DomainPointer domain = provider_->open_domain();
    std::vector<std::unique_ptr<fabric::MemoryRegion>> regions;
    World world = scene_.open(random, false, [&](uint64_t at, uint64_t size, unsigned access, uint64_t) {
      regions.push_back(domain->register_memory(at, size, access));
      return regions.back()->rkey();
    });
    world.ird = iwarp::kReadDepth;
    fabric::QueuePairOptions options = options_;
    options.crc = random.chance(30);
    uint64_t frames = 0;
    {
      const std::unique_ptr<fabric::QueuePair> queue_pair = domain->create_queue_pair(options, events);
      for (size_t number = 0; number < world.recvs; ++number) {
        const fabric::RecvWorkRequest request = scene_.recv(number);
        queue_pair->post_recv(request);
      }
      const bool started = random.chance(60) ? we_answer(random, hits, world, *queue_pair, frames)
                                             : we_ask(random, hits, world, *queue_pair, frames);
      if (started) events.wait_closed();
      queue_pair->close();
      if (started) count(hits, events);
    }
    regions.clear();
    scene_.arena.check();
    return frames;
  }

 private:
  Bytes hostile_frames(Random& random, const World& world, uint64_t& count) {
    std::vector<Frame> frames = honest_frames(random, world);
    const bool damaged = random.chance(80);
    if (damaged) damage_frames(random, world, frames);
    count = frames.size();
    return encode_frames(random, frames, damaged && random.chance(50));
  }
  static void end(Random& random, RawPeer& peer) { random.chance(80) ? peer.finish() : peer.reset(); }

  // False: what came was no request.
  bool we_answer(Random& random, Hits& hits, World& world, fabric::QueuePair& queue_pair, uint64_t& frames) {
    ++hits["we answer"];
    MpaFrame request;
    request.revision = random.chance(80) ? 2 : 1;
    request.enhanced = request.revision == 2 && random.chance(80);
    request.ird = request.ord = static_cast<uint16_t>(request.enhanced ? 1 + random.below(40) : 0);
    request.crc = random.chance(50);
    request.peer_to_peer = request.rtr_send = request.enhanced && random.chance(30);
    request.private_data = random.bytes(random.below(60));
    world.awaits_ready = request.peer_to_peer;
    Bytes bytes = encode(request);
    if (random.chance(20)) mutate(random, bytes);
    RawPeer peer(acceptor_->endpoint());
    peer.send(bytes + hostile_frames(random, world, frames));
    peer.finish();
    for (int tries = 0; acceptor_->waiting() == 0; ++tries) {
      // The listener has refused it, or closed.
      if (peer.hears_within(1)) {
        ++hits["no request"];
        return false;
      }
      if (tries > 20'000) throw Finding("a request was neither handed on nor dropped");
    }
    queue_pair.accept(acceptor_->next(), {}, true);
    drain(peer);
    return true;
  }
  static void drain(RawPeer& peer) {
    while (!peer.receive(65536).empty()) continue;
  }

  bool we_ask(Random& random, Hits& hits, const World& world, fabric::QueuePair& queue_pair,
              uint64_t& frames) {
    ++hits["we ask"];
    queue_pair.connect(listener_.endpoint(), {});
    RawPeer peer = listener_.accept();
    const MpaFrame request = peer.receive_mpa(MpaKind::kRequest);
    MpaFrame reply = iwarp::make_reply(request, options_, random.bytes(random.below(60)), random.chance(5));
    reply.crc = random.chance(50);
    Bytes bytes = encode(reply);
    if (random.chance(20)) mutate(random, bytes);
    peer.send(bytes + hostile_frames(random, world, frames));
    end(random, peer);
    return true;
  }

  static void count(Hits& hits, const Recorder& events) {
    if (events.closed() != 1 || events.late_events() != 0 || events.empty_batches() != 0)
      throw Finding("the end was told wrongly");
    ++hits[events.established() ? "established" : "never established"];
    const std::string code = events.reason_code();
    ++hits[code.empty() ? "ended in order" : code];
    static const std::vector<std::string> known = {
        "",           "MPA_ERROR",           "REJECTED",        "CRC_ERROR",
        "WIRE_ERROR", "REMOTE_ACCESS_ERROR", "CONNECTION_LOST", "TERMINATE_RECEIVED"};
    if (std::find(known.begin(), known.end(), code) == known.end())
      throw Finding("ended with " + events.reason_text());
  }

  fabric::QueuePairOptions options_;
  const std::unique_ptr<fabric::Provider> provider_ = iwarp::make_provider();
  std::unique_ptr<Acceptor> acceptor_;
  test::RawListener listener_;
  Scene scene_;
};

}  // namespace

std::unique_ptr<Target> connections_target() { return std::make_unique<ConnectionsTarget>(); }

}  // namespace rdma_migrate::fuzz
