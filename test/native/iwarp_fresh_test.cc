// Pages that hold nothing yet are filled through the file that they are mapped from.
#include <doctest/doctest.h>

#include <algorithm>
#include <thread>

#include "engine/file_backing.h"
#include "memory/populate.h"
#include "memory_support.h"
#include "support/backing.h"
#include "support/victim.h"

using namespace rdma_migrate;
using namespace rdma_migrate::test;
using memory::Mapping;
using memory_test::allocated_bytes;
using memory_test::kMiB;
using memory_test::kPage;

namespace {

// What is mapped into this process, of all of it; a page that was stored by file only is not.
uint64_t mapped_pages(const Mapping& mapping) {
  UniqueFd pagemap(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  std::vector<uint64_t> entries(mapping.length() / kPage);
  const size_t size = entries.size() * sizeof(uint64_t);
  REQUIRE(pread(pagemap.get(), entries.data(), size,
                static_cast<off_t>(mapping.address() / kPage * sizeof(uint64_t))) ==
          static_cast<ssize_t>(size));
  return static_cast<uint64_t>(
      std::count_if(entries.begin(), entries.end(), [](uint64_t entry) { return entry >> 63 != 0; }));
}

struct Placed final : fabric::PlacementObserver {
  void placed(uint64_t address, uint64_t length) override {
    std::lock_guard lock(mutex);
    ranges.push_back({address, length});
    bytes += length;
  }
  uint64_t total() {
    std::lock_guard lock(mutex);
    return bytes;
  }
  std::mutex mutex;
  std::vector<memory::Range> ranges;
  uint64_t bytes = 0;
};

// A victim whose peer may write into a mapping.
struct Fresh {
  explicit Fresh(std::shared_ptr<Mapping> into, bool crc = false)
      : victim(crc ? Victim::with_crc() : Victim()), mapping(std::move(into)) {
    backing = engine::FileBacking::of(*mapping);
    victim.domain->observe_placement(placed);
    region = victim.domain->register_mapped(mapping->address(), mapping->length(), kRemoteAll, backing);
  }
  Bytes write(uint64_t at, const Bytes& payload) const {
    return fpdu(write_header(region->rkey(), mapping->address() + at), payload);
  }
  // Segments of `segment` bytes, and a SEND after them.
  void write_all(uint64_t at, const Bytes& payload, size_t segment) {
    Bytes stream;
    for (size_t done = 0; done < payload.size(); done += segment) {
      const auto from = payload.begin() + static_cast<ptrdiff_t>(done);
      stream = std::move(stream) +
               write(at + done,
                     Bytes(from, from + static_cast<ptrdiff_t>(std::min(segment, payload.size() - done))));
    }
    victim.peer.send(stream + fpdu(send_header(++sends), {}));
    victim.events.wait_recvs(sends);
  }
  bool holds(uint64_t at, const Bytes& bytes) const {
    return std::equal(bytes.begin(), bytes.end(), mapping->data() + at);
  }

  Victim victim;
  std::shared_ptr<Mapping> mapping;
  std::shared_ptr<fabric::Backing> backing;
  std::shared_ptr<Placed> placed = std::make_shared<Placed>();
  std::unique_ptr<fabric::MemoryRegion> region;
  uint32_t sends = 0;
};

constexpr size_t kLarge = 64'999;  // no page ends where it does

}  // namespace

TEST_CASE("fresh pages are filled without a page fault, whatever the segments, and no others are taken") {
  for (const bool crc : {false, true}) {
    for (const size_t segment : {size_t{700}, size_t{1448}, size_t{4096}, size_t{20'000}, kLarge}) {
      CAPTURE(crc);
      CAPTURE(segment);
      Fresh fresh(Mapping::memfd("ram", 16 * kMiB), crc);
      const Bytes bytes = pattern(3 * kMiB, segment);
      fresh.write_all(kMiB, bytes, segment);
      CHECK(mapped_pages(*fresh.mapping) == 0);
      CHECK(allocated_bytes(*fresh.mapping) == 3 * kMiB);
      CHECK(fresh.victim.queue_pair->counters().write_bytes_placed == bytes.size());
      CHECK(fresh.placed->total() == bytes.size());
      CHECK(fresh.holds(kMiB, bytes));
    }
  }
}

TEST_CASE("a WRITE that begins and ends within pages leaves the rest of them as it was") {
  Fresh fresh(Mapping::memfd("ram", kMiB));
  const Bytes first = pattern(100'001, 1);
  const Bytes second = pattern(150'003, 2);
  fresh.write_all(777, first, kLarge);
  fresh.write_all(777 + first.size(), second, kLarge);
  CHECK(fresh.holds(777, first + second));
  CHECK(fresh.holds(0, Bytes(777)));
  CHECK(fresh.holds(777 + first.size() + second.size(), Bytes(kMiB - 777 - first.size() - second.size())));
}

TEST_CASE("WRITEs here and there are each in their place, and told of as they came") {
  Fresh fresh(Mapping::memfd("ram", 4 * kMiB));
  Bytes expected(4 * kMiB);
  Bytes stream;
  for (const uint64_t at : {3 * kMiB, 5 * kPage, kMiB + 9, 2 * kMiB, 3 * kMiB + 40'000}) {
    const Bytes payload = pattern(30'000, at);
    std::copy(payload.begin(), payload.end(), expected.begin() + static_cast<ptrdiff_t>(at));
    stream = stream + fresh.write(at, payload);
  }
  fresh.victim.peer.send(stream + fpdu(send_header(1), {}));
  fresh.victim.events.wait_recvs(1);
  CHECK(fresh.holds(0, expected));
  REQUIRE(fresh.placed->ranges.size() == 5);
  CHECK(fresh.placed->ranges[1].offset == fresh.mapping->address() + 5 * kPage);
  CHECK(fresh.placed->ranges[1].length == 30'000);
}

TEST_CASE("two queue pairs that fill the same fresh pages leave each other's part as it is") {
  constexpr uint64_t kPages = 200;
  const auto ram = Mapping::memfd("ram", kPages * kPage);
  const Bytes bytes = pattern(kPages * kPage, 5);
  Fresh one(ram);
  Fresh other(ram);
  // Each the half of every page, at the same time.
  const auto fill = [&](Fresh& end, uint64_t half) {
    Bytes stream;
    for (uint64_t at = half * kPage / 2; at < bytes.size(); at += kPage) {
      const auto from = bytes.begin() + static_cast<ptrdiff_t>(at);
      stream = std::move(stream) + end.write(at, Bytes(from, from + kPage / 2));
    }
    end.victim.peer.send(stream + fpdu(send_header(1), {}));
    end.victim.events.wait_recvs(1);
  };
  std::thread beside([&] { fill(other, 1); });
  fill(one, 0);
  beside.join();
  CHECK(one.holds(0, bytes));
}

TEST_CASE("pages that are there are written in place") {
  Fresh fresh(Mapping::memfd("ram", 2 * kMiB));
  const Bytes first = pattern(kMiB, 1);
  fresh.write_all(0, first, kLarge);
  CHECK(mapped_pages(*fresh.mapping) == 0);
  const Bytes second = pattern(kMiB, 2);
  fresh.write_all(0, second, kLarge);
  // The segment that the end of a page cuts may have gone either way.
  CHECK(mapped_pages(*fresh.mapping) >= kMiB / kPage - 16);
  CHECK(fresh.holds(0, second));
  memory::populate(*fresh.mapping, kMiB, kMiB);
  CHECK_FALSE(fresh.backing->is_fresh(fresh.mapping->address() + kMiB));
}

TEST_CASE("only memory of which empty pages are known has a backing") {
  memory_test::TemporaryFolder folder("/dev/shm");
  Mapping::file(folder.file("ram"), kMiB, memory::FileMode::kCreate);
  CHECK(engine::FileBacking::of(*Mapping::file(folder.file("new"), kMiB, memory::FileMode::kCreate)));
  CHECK_FALSE(engine::FileBacking::of(*Mapping::file(folder.file("ram"), kMiB, memory::FileMode::kWrite)));
  const auto owned = Mapping::memfd("ram", kMiB);
  CHECK_FALSE(engine::FileBacking::of(*Mapping::caller(owned->address(), kMiB)));
}

TEST_CASE("a damaged segment is not stored, what came before it is") {
  Fresh fresh(Mapping::memfd("ram", kMiB), true);
  const Bytes good = pattern(10'000, 1);
  Bytes damaged = fresh.write(good.size(), pattern(10'000, 2));
  damaged[500] ^= 1;
  fresh.victim.peer.send(fresh.write(0, good) + damaged);
  fresh.victim.events.wait_closed();
  CHECK(fresh.victim.events.reason_text().find("CRC32C") != std::string::npos);
  CHECK(fresh.holds(0, good));
  CHECK(fresh.holds(good.size(), Bytes(kMiB - good.size())));
  CHECK(fresh.victim.queue_pair->counters().write_bytes_placed == good.size());
  CHECK(fresh.placed->total() == good.size());
}

TEST_CASE("what came before a message against the rules is stored and told of") {
  Fresh fresh(Mapping::memfd("ram", kMiB));
  const Bytes good = pattern(10'000, 1);
  fresh.victim.peer.send(fresh.write(0, good) +
                         fpdu(write_header(fresh.region->rkey(), fresh.mapping->address() + kMiB), Bytes(1)));
  fresh.victim.expect(TerminateCode::kTaggedBaseOrBounds, "REMOTE_ACCESS_ERROR");
  CHECK(fresh.holds(0, good));
  CHECK(fresh.placed->total() == good.size());
}

TEST_CASE("a part of a segment that has come is stored before the rest comes") {
  Fresh fresh(Mapping::memfd("ram", kMiB));
  const Bytes payload = pattern(50'000, 1);
  const Bytes segment = fresh.write(0, payload);
  fresh.victim.peer.send(Bytes(segment.begin(), segment.begin() + 20'000));
  const auto placed = [&] { return fresh.victim.queue_pair->counters().write_bytes_placed.load(); };
  for (int pause = 0; pause < 6000 && placed() < 20'000 - 16; ++pause) usleep(10'000);
  REQUIRE(placed() >= 20'000 - 16);
  CHECK(fresh.holds(0, Bytes(payload.begin(), payload.begin() + 19'000)));
  CHECK(fresh.placed->total() == 0);
  fresh.victim.peer.send(Bytes(segment.begin() + 20'000, segment.end()) + fpdu(send_header(1), {}));
  fresh.victim.events.wait_recvs(1);
  CHECK(fresh.holds(0, payload));
  CHECK(fresh.placed->total() == payload.size());
}

TEST_CASE("a file that was cut ends the connection, wherever a WRITE goes") {
  for (const uint64_t at : {uint64_t{0}, 40 * kPage, 100 * kPage, 120 * kPage}) {
    CAPTURE(at);
    memory_test::TemporaryFolder folder("/dev/shm");
    Fresh fresh(Mapping::file(folder.file("ram"), 128 * kPage, memory::FileMode::kCreate));
    REQUIRE(truncate(folder.file("ram").c_str(), 50 * kPage) == 0);
    fresh.victim.peer.send(fresh.write(at, pattern(8 * kPage, 1)) + fpdu(send_header(1), {}));
    fresh.victim.events.wait_closed();
    CHECK(fresh.victim.events.reason_code() == "IO_ERROR");
    CHECK(fresh.victim.events.recvs().front().status == fabric::Status::kFlushed);
    CHECK(fresh.placed->total() == 0);
  }
}

TEST_CASE("a file that was removed is filled all the same, and its last page too") {
  memory_test::TemporaryFolder folder("/dev/shm");
  Fresh fresh(Mapping::file(folder.file("ram"), kMiB, memory::FileMode::kCreate));
  unlink(folder.file("ram").c_str());
  const Bytes bytes = pattern(kMiB, 1);
  fresh.write_all(0, bytes, kLarge);
  CHECK(fresh.holds(0, bytes));
}

TEST_CASE("a full file system is DISK_FULL") {
  memory_test::TemporaryFolder folder;
  if (!folder.mount_tmpfs(kMiB)) {
    MESSAGE("needs the right to mount");
    return;
  }
  {
    Fresh fresh(Mapping::file(folder.file("ram"), 8 * kMiB, memory::FileMode::kCreate));
    Bytes stream;
    for (uint64_t at = 0; at < 4 * kMiB; at += 50'000) stream = stream + fresh.write(at, pattern(50'000, at));
    fresh.victim.peer.send(stream);
    fresh.victim.events.wait_closed();
    CHECK(fresh.victim.events.reason_code() == "DISK_FULL");
    CHECK(fresh.victim.queue_pair->counters().write_bytes_placed <= kMiB);
    CHECK(fresh.placed->total() <= fresh.victim.queue_pair->counters().write_bytes_placed);
  }
}

namespace {

// A victim's region over scripted memory.
struct Scripted {
  Scripted()
      : region(victim.domain->register_mapped(victim.region->address(), Victim::kSize, kRemoteAll, backing)) {
    victim.domain->observe_placement(placed);
  }
  Bytes write(uint64_t at, const Bytes& payload) {
    return fpdu(write_header(region->rkey(), victim.region->address(at)), payload);
  }

  Victim victim;
  std::shared_ptr<ScriptedBacking> backing = std::make_shared<ScriptedBacking>();
  std::shared_ptr<Placed> placed = std::make_shared<Placed>();
  std::unique_ptr<fabric::MemoryRegion> region;
};

}  // namespace

TEST_CASE("a store that fails is told to the peer, and nothing of it counts") {
  Scripted scripted;
  scripted.backing->failure = Error("DISK_FULL", "no room");
  scripted.victim.peer.send(scripted.write(0, pattern(9000, 1)) + fpdu(send_header(1), {}));
  scripted.victim.events.wait_receive_failed();
  scripted.victim.queue_pair->post_send(send_of(*scripted.victim.inbox, 8));
  scripted.victim.queue_pair->disconnect();
  CHECK(scripted.victim.peer.receive_fpdu().payload == Bytes(8, 0xee));
  scripted.victim.peer.close();
  scripted.victim.events.wait_closed();
  CHECK(scripted.victim.events.reason_code() == "DISK_FULL");
  CHECK(scripted.victim.queue_pair->counters().write_bytes_placed == 0);
  CHECK(scripted.placed->total() == 0);
}

TEST_CASE("what the file does not take is placed in the mapping") {
  for (const uint64_t stored : {uint64_t{0}, uint64_t{1}, uint64_t{10'000}, uint64_t{15'001}}) {
    CAPTURE(stored);
    Scripted scripted;
    scripted.backing->at_most = stored;
    const Bytes first = pattern(9001, 1);
    const Bytes second = pattern(11'003, 2);
    scripted.victim.peer.send(scripted.write(5, first) + scripted.write(5 + first.size(), second) +
                              fpdu(send_header(1), {}));
    scripted.victim.events.wait_recvs(1);
    const Bytes& held = scripted.victim.region->bytes;
    CHECK(std::equal(first.begin(), first.end(), held.begin() + 5));
    CHECK(std::equal(second.begin(), second.end(), held.begin() + 5 + static_cast<ptrdiff_t>(first.size())));
    CHECK(scripted.victim.queue_pair->counters().write_bytes_placed == first.size() + second.size());
  }
}

TEST_CASE("segments that follow each other are stored with one call") {
  Scripted scripted;
  Bytes stream;
  for (uint64_t at = 0; at < 100'000; at += 10'000) stream = stream + scripted.write(at, pattern(10'000, at));
  scripted.backing->hold();
  scripted.victim.peer.send(scripted.write(200'000, Bytes(9)));
  REQUIRE(scripted.backing->wait_stores(1));
  scripted.victim.peer.send(stream + fpdu(send_header(1), {}));
  std::this_thread::sleep_for(std::chrono::milliseconds(50));  // all of it is in the socket
  scripted.backing->release();
  scripted.victim.events.wait_recvs(1);
  CHECK(scripted.backing->stores() <= 4);
  CHECK(scripted.placed->total() == 100'009);
}

TEST_CASE("who takes the rights back waits for a store under way, and none follows") {
  for (const bool revoke : {false, true}) {
    CAPTURE(revoke);
    Scripted scripted;
    scripted.backing->hold();
    const Bytes segment = scripted.write(0, pattern(20'000, 1));
    scripted.victim.peer.send(Bytes(segment.begin(), segment.begin() + 10'000));
    REQUIRE(scripted.backing->wait_stores(1));
    std::atomic<bool> gone{false};
    std::thread taker([&] {
      revoke ? scripted.victim.domain->revoke_remote_access() : scripted.region.reset();
      gone = true;
    });
    // The second half comes while the rights go.
    scripted.victim.peer.send(Bytes(segment.begin() + 10'000, segment.end()) + fpdu(send_header(1), {}));
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    CHECK_FALSE(gone.load());
    scripted.backing->release();
    taker.join();
    const uint64_t landed = scripted.victim.queue_pair->counters().write_bytes_placed;
    const Bytes then = scripted.victim.region->bytes;
    scripted.victim.expect(TerminateCode::kTaggedInvalidStag, "REMOTE_ACCESS_ERROR");
    CHECK(landed < 10'000);
    CHECK(scripted.victim.queue_pair->counters().write_bytes_placed == landed);
    CHECK(scripted.victim.region->bytes == then);
    CHECK(scripted.backing->stores() == 1);
    CHECK(scripted.placed->total() == 0);
  }
}

TEST_CASE("a READ of the peer's sees what it has written before") {
  iwarp::MpaFrame request;
  request.enhanced = true;
  request.ord = 1;
  Victim victim(request);
  const auto mapping = Mapping::memfd("ram", kMiB);
  const auto region =
      victim.domain->register_mapped(mapping->address(), kMiB, kRemoteAll, engine::FileBacking::of(*mapping));
  const Bytes payload = pattern(30'000, 1);
  victim.peer.send(fpdu(write_header(region->rkey(), mapping->address()), payload) +
                   fpdu(read_header(1), read_payload({.sink_stag = 1,
                                                      .sink_offset = 0,
                                                      .length = 1000,
                                                      .source_stag = region->rkey(),
                                                      .source_offset = mapping->address() + 29'000})));
  CHECK(victim.peer.receive_fpdu().payload == Bytes(payload.end() - 1000, payload.end()));
}
