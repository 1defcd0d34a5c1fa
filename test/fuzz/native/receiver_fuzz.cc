// The software RNIC's receiving and sending halves, right on a socket pair, with real registered memory. Each
// case is a connection of many frames; memory without a grant must be as it was after each.
#include <fcntl.h>
#include <sys/socket.h>

#include <cstdio>
#include <optional>

#include "driver.h"
#include "fd.h"
#include "frames.h"
#include "iwarp/receiver.h"
#include "iwarp/transmitter.h"
#include "scene.h"
#include "support/backing.h"
#include "support/protection.h"

namespace rdma_migrate::fuzz {
namespace {

using fabric::Bytes;
using iwarp::RdmapOpcode;
using iwarp::Receiver;
using iwarp::TerminateCode;
using iwarp::Transmitter;

std::string name_of(TerminateCode code) {
  char text[32];
  std::snprintf(text, sizeof text, "TERMINATE %04x", static_cast<unsigned>(code));
  return text;
}

struct Events final : fabric::QueuePairEvents {
  void on_established(std::span<const uint8_t>) override {}
  void on_send(std::span<const fabric::Completion> completions) override { sent += completions.size(); }
  void on_recv(std::span<const fabric::Completion> completions) override {
    for (const fabric::Completion& each : completions) {
      ++received;
      if (each.byte_len > Scene::kRecvSize) throw Finding("a RECV of more bytes than it has room for");
    }
  }
  void on_closed(const Error*) override {}
  uint64_t sent = 0, received = 0;
};

struct Placed final : fabric::PlacementObserver {
  explicit Placed(std::vector<Range> may) : may_be(std::move(may)) {}
  void placed(uint64_t address, uint64_t length) override {
    ++count;
    for (const Range& range : may_be) {
      if (address >= range.base && length <= range.size && address - range.base <= range.size - length)
        return;
    }
    throw Finding("a range was told as placed that no peer may write to");
  }
  const std::vector<Range> may_be;
  uint64_t count = 0;
};

// One connection, from its first frame to its end.
class Connection {
 public:
  Connection(Random& random, Hits& hits, Scene& scene, const std::shared_ptr<iwarp::Engine>& engine)
      : random_(random),
        hits_(hits),
        scene_(scene),
        regions_(std::make_shared<iwarp::RegionTable>(engine)),
        messages_({}, events_, regions_),
        receiver_(messages_, section_, peer_),
        transmitter_(messages_, section_, peer_),
        crc_(random.chance(70)),
        damaged_(random.chance(85)),
        protected_(random.chance(30)) {
    int both[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, both) != 0)
      throw std::runtime_error("socketpair");
    ours_ = UniqueFd(both[0]);
    theirs_ = UniqueFd(both[1]);
    prepare();
  }

  uint64_t play() {
    const std::vector<Frame> honest = honest_frames(random_, world_);
    std::vector<Frame> frames = honest;
    if (damaged_ && random_.chance(80)) damage_frames(random_, world_, frames);
    Bytes stream = encode_frames(random_, frames, damaged_ && random_.chance(60));
    if (protected_) stream = sealed(stream);
    try {
      feed(stream);
      count_end("ended in order");
    } catch (const iwarp::WireFault& fault) {
      terminate(fault.code());
    } catch (const iwarp::PlacementFault& fault) {
      if (!fails_to_store_) throw fault.error;
      count_end("PlacementFault");
    } catch (const Error& error) {
      count_error(error);
    }
    count();
    scene_.arena.check();
    if (!damaged_ && !revoked_ && !fails_to_store_) check_model(honest);
    return frames.size();
  }

 private:
  void prepare() {
    backing_.fresh = random_.chance(70);
    backing_.at_most = random_.chance(50) ? random_.below(3000) : UINT64_MAX;
    fails_to_store_ = random_.chance(2);
    if (fails_to_store_) backing_.failure = Error("DISK_FULL", "no room");
    const bool backed = random_.chance(40);
    size_t place = 0;
    world_ = scene_.open(random_, true, [&](uint64_t at, uint64_t size, unsigned access, uint64_t base) {
      const uint32_t key = (static_cast<uint32_t>(random_.next()) & ~7U) | static_cast<uint32_t>(place + 1);
      const bool by_file = backed && place == Scene::kWrite;
      ++place;
      regions_->add_as(key, base, at, size, access, by_file ? &backing_ : nullptr);
      return key;
    });
    placed_ = std::make_shared<Placed>(world_.writable);
    regions_->observe_placement(placed_);
    const size_t posted = world_.recvs - (damaged_ && world_.recvs != 0 && random_.chance(10) ? 1 : 0);
    for (size_t number = 0; number < posted; ++number) {
      const fabric::RecvWorkRequest request = scene_.recv(number);
      messages_.recv_queue.post({&request, 1});
    }
    messages_.ird = world_.ird = random_.below(17);
    messages_.ord = Scene::kReads;
    world_.awaits_ready = random_.chance(20);
    receiver_.open(ours_.get(), crc_, world_.awaits_ready);
    transmitter_.open(ours_.get(), crc_);
    if (protected_) {
      receiver_.protect(test::passive_protection(kRecordsPerKey));
      transmitter_.protect(iwarp::RecordWriter(test::passive_protection(kRecordsPerKey)));
    }
    if (!world_.awaits_ready && random_.chance(40)) ask_for_reads();
  }
  void ask_for_reads() {
    for (size_t number = 0; number < Scene::kReads; ++number) {
      const fabric::SendWorkRequest request = scene_.read(number);
      messages_.send_queue.post({&request, 1});
      world_.reads.push_back(scene_.read_sink(number));
    }
    answer();
    if (messages_.pending_reads.size() != Scene::kReads) throw Finding("READs were not sent");
  }

  // In records of any size, with or without the word that it ends; damaged on the way at times.
  Bytes sealed(const Bytes& frames) {
    iwarp::RecordWriter writer(test::active_protection(kRecordsPerKey));
    Bytes stream = test::seal_all(writer, frames, 1 + random_.below(random_.chance(50) ? 100 : 5000));
    if (!damaged_ || random_.chance(70)) {
      const Bytes end = test::seal_end(writer);
      stream.insert(stream.end(), end.begin(), end.end());
    }
    ++hits_["protected"];
    if (damaged_ && random_.chance(30)) {
      mutate(random_, stream);
      ++hits_["a record damaged"];
    }
    return stream;
  }
  // In pieces of any size, with turns of any size; rights may go in between.
  void feed(const Bytes& stream) {
    const bool small = random_.chance(20);
    for (size_t at = 0; at < stream.size();) {
      const size_t most = small ? 1 + random_.below(40) : 1 + random_.below(30'000);
      const ssize_t sent =
          send(theirs_.get(), stream.data() + at, std::min(most, stream.size() - at), MSG_NOSIGNAL);
      if (sent > 0) at += static_cast<size_t>(sent);
      if (random_.chance(1)) take_rights_away();
      receive();
    }
    shutdown(theirs_.get(), SHUT_WR);
    if (random_.chance(50)) receiver_.expect_end();
    while (receive() != Receiver::Went::kEnded) continue;
  }
  Receiver::Went receive() {
    for (;;) {
      const Receiver::Went went = receiver_.receive(random_.chance(50) ? 1u << 20 : 1 + random_.below(4000));
      if (went == Receiver::Went::kReady) ++hits_["ready message"];
      receiver_.check_stall(iwarp::Clock::now());
      receiver_.next_look(iwarp::Clock::now());
      answer();
      if (went == Receiver::Went::kDry || went == Receiver::Went::kEnded) return went;
    }
  }
  void answer() {
    const bool asked = !messages_.read_jobs.empty();
    for (;;) {
      const Transmitter::Went went = transmitter_.transmit(1u << 20);
      uint8_t scrap[65536];
      while (recv(theirs_.get(), scrap, sizeof scrap, MSG_DONTWAIT) > 0) continue;
      if (went == Transmitter::Went::kIdle) break;
    }
    if (asked) ++hits_["READ answered"];
  }

  void take_rights_away() {
    revoked_ = true;
    if (random_.chance(30)) {
      regions_->revoke_remote();
    } else if (random_.chance(20)) {
      // Of memory that was posted.
      regions_->remove(scene_.range(random_.chance(50) ? Scene::kInbox : Scene::kSink).stag);
      return;
    } else {
      regions_->remove(scene_.range(Scene::kWrite).stag);
      scene_.arena.revoke(Scene::kWrite);
      return;
    }
    scene_.arena.revoke(Scene::kWrite);
    scene_.arena.revoke(Scene::kBoth);
  }

  // What the peer is told can be read by it, and nothing is received any more.
  void terminate(TerminateCode code) {
    count_end(name_of(code));
    if (code == TerminateCode::kMpaCrc) ++hits_["CRC failure"];
    const Bytes payload = receiver_.terminate_payload(code);
    if (iwarp::decode_terminate(payload) != code) throw Finding("a TERMINATE that cannot be read again");
    if (payload.size() > 512) throw Finding("a TERMINATE of " + std::to_string(payload.size()) + " bytes");
    transmitter_.terminate(payload);
    answer();
    receiver_.discard();
  }
  void count_error(const Error& error) {
    count_end(error.code());
    const bool known = error.code() == "CONNECTION_LOST" || error.code() == "TERMINATE_RECEIVED" ||
                       (error.code() == "INVALID_ARGUMENT" && revoked_);
    if (!known) throw Finding("ended with " + error.code() + ": " + error.what());
  }
  void count_end(const std::string& how) {
    ++hits_[how];
    if (damaged_ || revoked_ || fails_to_store_) return;
    ++hits_["undamaged"];
    if (how != "ended in order" && how != "TERMINATE_RECEIVED")
      throw Finding("undamaged frames are refused: " + how);
  }
  void count() {
    hits_["WRITE placed"] += placed_->count;
    hits_["SEND delivered"] += events_.received;
    hits_["READ of ours answered"] += events_.sent;
    hits_["WRITE stored by file"] += static_cast<uint64_t>(backing_.stores());
  }

  // Memory is what the frames say, byte for byte.
  void check_model(const std::vector<Frame>& frames) {
    std::vector<Bytes> expected;
    for (const size_t place : {Scene::kWrite, Scene::kBoth, Scene::kSink, Scene::kInbox})
      expected.emplace_back(scene_.arena.size(place), GuardedArena::kGuard);
    const auto put = [](Bytes& memory, uint64_t at, const Bytes& payload) {
      std::copy(payload.begin(), payload.end(), memory.begin() + static_cast<ptrdiff_t>(at));
    };
    size_t inbox = 0;
    bool is_ready = !world_.awaits_ready;
    for (const auto& [header, payload, lie, bad] : frames) {
      const auto opcode = static_cast<RdmapOpcode>(header.opcode);
      if (opcode == RdmapOpcode::kTerminate) break;
      if (!std::exchange(is_ready, true)) continue;
      if (header.tagged) {
        for (const auto& [at, place] : {std::pair{0, Scene::kWrite}, {1, Scene::kBoth}, {2, Scene::kSink}}) {
          const Range& range = scene_.range(place);
          if (range.stag == header.stag)
            put(expected[static_cast<size_t>(at)], header.target_offset - range.base, payload);
        }
      } else if (header.queue == 0) {
        put(expected[3], inbox * Scene::kRecvSize + header.message_offset, payload);
        if (header.last) ++inbox;
      }
    }
    size_t at = 0;
    for (const size_t place : {Scene::kWrite, Scene::kBoth, Scene::kSink, Scene::kInbox}) {
      if (std::memcmp(scene_.arena.data(place), expected[at].data(), expected[at].size()) != 0)
        throw Finding("place " + std::to_string(place) + " does not hold what undamaged frames brought");
      ++at;
    }
  }

  // Keys change many times.
  static constexpr uint64_t kRecordsPerKey = 16;

  Random& random_;
  Hits& hits_;
  Scene& scene_;
  const std::string peer_ = "the fuzzer";
  test::ScriptedBacking backing_;
  Events events_;
  std::shared_ptr<iwarp::RegionTable> regions_;
  std::shared_ptr<Placed> placed_;
  iwarp::IoSection section_;
  iwarp::MessageState messages_;
  Receiver receiver_;
  Transmitter transmitter_;
  const bool crc_;
  const bool damaged_;
  const bool protected_;
  bool revoked_ = false;
  bool fails_to_store_ = false;
  UniqueFd ours_, theirs_;
  World world_;
};

class ReceiverTarget final : public Target {
 public:
  std::string name() const override { return "receiver"; }
  std::vector<std::string> reaches() const override {
    std::vector<std::string> all = {
        "WRITE placed",          "WRITE stored by file", "SEND delivered",     "READ answered",
        "READ of ours answered", "CRC failure",          "ready message",      "undamaged",
        "CONNECTION_LOST",       "PlacementFault",       "TERMINATE_RECEIVED", "protected",
        "a record damaged"};
    using enum TerminateCode;
    for (const TerminateCode code : {kTaggedInvalidVersion,
                                     kUntaggedInvalidVersion,
                                     kRdmapInvalidVersion,
                                     kRdmapUnexpectedOpcode,
                                     kTaggedOffsetWrap,
                                     kTaggedInvalidStag,
                                     kRdmapAccessRights,
                                     kTaggedBaseOrBounds,
                                     kUntaggedInvalidQueue,
                                     kUntaggedInvalidMsn,
                                     kUntaggedNoBuffer,
                                     kUntaggedInvalidOffset,
                                     kUntaggedTooLong,
                                     kRdmapUnspecified,
                                     kRdmapInvalidStag,
                                     kRdmapOffsetWrap,
                                     kRdmapBaseOrBounds,
                                     kRdmapCannotInvalidate,
                                     kMpaCrc,
                                     kMpaLength})
      all.push_back(name_of(code));
    return all;
  }
  uint64_t short_run() const override { return 12'000; }
  uint64_t play(Random& random, Hits& hits) override {
    scene_.arena.restore();
    return Connection(random, hits, scene_, engine_).play();
  }

 private:
  Scene scene_;
  std::shared_ptr<iwarp::Engine> engine_ = std::make_shared<iwarp::Engine>(1);
};

}  // namespace

std::unique_ptr<Target> receiver_target() { return std::make_unique<ReceiverTarget>(); }

}  // namespace rdma_migrate::fuzz
