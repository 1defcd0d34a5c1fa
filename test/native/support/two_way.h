// One end of a queue pair with random SENDs, WRITEs and READs, and a check of everything that comes: nothing
// lost, nothing twice, order kept, contents right.
#pragma once

#include <doctest/doctest.h>

#include <condition_variable>
#include <cstring>
#include <mutex>
#include <optional>
#include <random>
#include <thread>

#include "iwarp/resume_frames.h"
#include "support/pair.h"
#include "support/requests.h"

namespace rdma_migrate::test {

class TwoWayEnd final : public fabric::QueuePairEvents {
 public:
  static constexpr size_t kDepth = 24;  // operations under way
  static constexpr size_t kSendSize = 8 * 1024;
  static constexpr size_t kWriteSize = 128 * 1024;
  static constexpr size_t kRecvs = 2 * kDepth;

  TwoWayEnd(fabric::Provider& provider, uint64_t seed, uint64_t operations)
      : domain(open_domain(provider)),
        operations_(operations),
        random_(seed),
        out_(domain, kDepth * kWriteSize),
        sink_(domain, kDepth * kWriteSize),
        target(domain, kDepth * kWriteSize, kRemoteAll),
        library(domain, kWriteSize, kRemoteAll),
        inbox_(domain, kRecvs * kSendSize),
        remote_target{target.address(), target.region->rkey()},
        remote_library{library.address(), library.region->rkey()} {
    mark(library.bytes.data(), kWriteSize, 7);
  }

  void prepare(const fabric::QueuePairOptions& options) {
    queue_pair = domain->create_queue_pair(options, *this);
    for (size_t at = 0; at < kRecvs; ++at) queue_pair->post_recv(recv(at));
  }
  // Posts everything, and returns when all of it has completed, and all of the peer's SENDs have come.
  void run(const TwoWayEnd& peer) {
    for (uint64_t operation = 0; operation < operations_ && wait_for_room(operation); ++operation)
      post(operation, peer);
  }
  bool wait_done(uint64_t sends_of_peer) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(120),
                      [&] { return closed_ || (completed_ == operations_ && received_ == sends_of_peer); });
    INFO(completed_ << " of " << operations_ << " completed, " << received_ << " of " << sends_of_peer
                    << " came");
    INFO(failure_);
    CHECK(completed_ == operations_);
    CHECK(received_ == sends_of_peer);
    CHECK(failure_ == "");
    CHECK(!closed_);
    return completed_ == operations_ && received_ == sends_of_peer;
  }
  void wait_closed() {
    std::unique_lock lock(mutex_);
    CHECK(changed_.wait_for(lock, std::chrono::seconds(60), [&] { return closed_; }));
    CHECK(reason_ == "");
  }
  // The peer has shown that it is established: from here on a cut is a broken link.
  void wait_heard() const {
    while (queue_pair->counters().bytes_received == 0)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  void wait_restored(int times) {
    std::unique_lock lock(mutex_);
    REQUIRE(changed_.wait_for(lock, std::chrono::seconds(60), [&] { return closed_ || restored_ >= times; }));
    REQUIRE_MESSAGE(!closed_, reason_);
  }
  struct MoveOptions {
    bool ahead = true;
    std::chrono::milliseconds drain{5'000};
    bool is_expected = true;   // the new place knows of it before it is stopped
    bool is_given_up = false;  // after it was frozen
    std::chrono::milliseconds pause{0};
  };
  // The program stands still, and goes on in a domain of its own with other memory. False: it has stayed.
  bool move(fabric::Provider& provider, const fabric::QueuePairOptions& options, const fabric::Endpoint& to,
            const MoveOptions& how) {
    const fabric::MovePlan plan{iwarp::random_bits(), {to}, std::chrono::seconds(60), how.ahead};
    queue_pair->prepare_move(plan);
    // At the new place.
    DomainPointer next_domain = open_domain(provider);
    std::unique_ptr<fabric::QueuePair> next = next_domain->create_queue_pair(options, *this);
    if (how.is_expected) next->expect(queue_pair->announcement());
    REQUIRE(wait_step(fabric::MoveStep::kPrepared) == "");
    std::lock_guard stopped(gate_);
    queue_pair->stop_for_move(how.drain);
    if (wait_step(fabric::MoveStep::kStopped) != "") {
      queue_pair->abort_move();
      REQUIRE(wait_step(fabric::MoveStep::kAborted) == "");
      leaves_ = true;
      next->close();
      leaves_ = false;
      return false;
    }
    leaves_ = true;
    const fabric::Bytes image = queue_pair->freeze([] { return std::vector<fabric::Completion>(); });
    std::this_thread::sleep_for(how.pause);
    if (how.is_given_up) {
      queue_pair->abort_move();
      REQUIRE(wait_step(fabric::MoveStep::kAborted) == "");
      next->close();
    } else {
      out_.move(next_domain, fabric::kAccessLocalWrite);
      sink_.move(next_domain, fabric::kAccessLocalWrite);
      inbox_.move(next_domain, fabric::kAccessLocalWrite);
      target.move(next_domain, kRemoteAll);
      library.move(next_domain, kRemoteAll);
      next->thaw(image);
      queue_pair->commit_move();
      queue_pair->close();
      queue_pair.swap(next);
      const int before = restored_;
      queue_pair->take_over(std::chrono::seconds(60));
      wait_restored(before + 1);
      next.reset();
      domain = next_domain;
    }
    leaves_ = false;
    return !how.is_given_up;
  }
  // What the problem was.
  std::string wait_step(fabric::MoveStep step) {
    std::unique_lock lock(mutex_);
    REQUIRE(changed_.wait_for(lock, std::chrono::seconds(60), [&] { return closed_ || step_ == step; }));
    REQUIRE_MESSAGE(!closed_, reason_);
    step_.reset();
    return problem_;
  }
  void on_move(fabric::MoveStep step, const Error* problem) override {
    std::lock_guard lock(mutex_);
    step_ = step;
    problem_ = problem == nullptr ? "" : problem->what();
    changed_.notify_all();
  }
  // SENDs are every third operation at least: each says which WRITE went before it.
  uint64_t sends() const { return operations_ / 3; }
  int lost() const { return lost_.load(); }
  int restored() const { return restored_.load(); }

  void on_established(std::span<const uint8_t>) override { notice(established_); }
  void on_link_lost(const Error&) override { ++lost_; }
  void on_link_restored() override {
    std::lock_guard lock(mutex_);
    ++restored_;
    changed_.notify_all();
  }
  void on_send(std::span<const fabric::Completion> completions) override {
    std::lock_guard lock(mutex_);
    for (const fabric::Completion& each : completions) {
      if (each.wr_id != completed_ || each.status != fabric::Status::kSuccess)
        fail("completion of " + std::to_string(each.wr_id) + " where " + std::to_string(completed_) +
             " was due");
      if (each.opcode == fabric::Opcode::kRdmaRead &&
          std::memcmp(sink_.bytes.data() + slot(each.wr_id), library.bytes.data(), each.byte_len) != 0)
        fail("a READ of other bytes");
      ++completed_;
    }
    changed_.notify_all();
  }
  void on_recv(std::span<const fabric::Completion> completions) override {
    for (const fabric::Completion& each : completions) {
      if (each.status != fabric::Status::kSuccess) continue;
      check_message(each);
      queue_pair->post_recv(recv(each.wr_id));
    }
    std::lock_guard lock(mutex_);
    changed_.notify_all();
  }
  void on_closed(const Error* reason) override {
    if (leaves_) return;
    std::lock_guard lock(mutex_);
    closed_ = true;
    if (reason != nullptr) reason_ = reason->what();
    changed_.notify_all();
  }
  void wait_established() {
    std::unique_lock lock(mutex_);
    REQUIRE(changed_.wait_for(lock, std::chrono::seconds(60), [&] { return established_ || closed_; }));
    REQUIRE_MESSAGE(established_, reason_);
  }

 private:
  struct Message {
    uint64_t number;  // of the SEND
    uint64_t write;   // the operation before it
    uint64_t size;    // of that
    uint64_t place;
  };
  static size_t slot(uint64_t operation) { return operation % kDepth * kWriteSize; }
  static void mark(uint8_t* at, size_t size, uint64_t seed) {
    for (size_t word = 0; word + 8 <= size; word += 8) {
      const uint64_t value = seed * 0x9e3779b97f4a7c15 + word;
      std::memcpy(at + word, &value, 8);
    }
  }
  static bool is_marked(const uint8_t* at, size_t size, uint64_t seed) {
    for (size_t word = 0; word + 8 <= size; word += 8) {
      const uint64_t expected = seed * 0x9e3779b97f4a7c15 + word;
      if (std::memcmp(at + word, &expected, 8) != 0) return false;
    }
    return true;
  }
  fabric::RecvWorkRequest recv(uint64_t at) {
    return {at, inbox_.address(at * kSendSize), kSendSize, inbox_.region->lkey()};
  }
  void notice(bool& what) {
    std::lock_guard lock(mutex_);
    what = true;
    changed_.notify_all();
  }
  void fail(const std::string& what) {
    if (failure_.empty()) failure_ = what;
  }
  bool wait_for_room(uint64_t operation) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(120), [&] {
      return closed_ || operation - completed_ < kDepth;
    }) && !closed_;
  }
  void post(uint64_t operation, const TwoWayEnd& peer) {
    std::lock_guard running(gate_);
    uint8_t* const bytes = out_.bytes.data() + slot(operation);
    const size_t most = random_() % 8 == 0 ? kWriteSize : 2000;
    const size_t size = (random_() % (most / 8) + 1) * 8;
    fabric::SendWorkRequest request;
    switch (operation % 3) {
      case 0:
        mark(bytes, size, operation);
        request =
            rdma_of(fabric::Opcode::kRdmaWrite, out_, slot(operation),
                    peer.remote_target.address + slot(operation), peer.remote_target.key, size, operation);
        last_ = {operation / 3, operation, size, slot(operation)};
        break;
      case 1:
        request = rdma_of(fabric::Opcode::kRdmaRead, sink_, slot(operation), peer.remote_library.address,
                          peer.remote_library.key, size, operation);
        std::memset(sink_.bytes.data() + slot(operation), 0, size);
        break;
      default: {
        const size_t length = std::min(kSendSize, sizeof last_ + size);
        std::memcpy(bytes, &last_, sizeof last_);
        mark(bytes + sizeof last_, length - sizeof last_, operation);
        request = send_of(out_, length, operation);
        request.address = out_.address(slot(operation));
      }
    }
    if (queue_pair->post_send(request)) return;
    std::lock_guard lock(mutex_);
    fail("no room in the send queue");
  }
  void check_message(const fabric::Completion& completion) {
    const uint8_t* const bytes = inbox_.bytes.data() + completion.wr_id * kSendSize;
    Message message;
    std::memcpy(&message, bytes, sizeof message);
    const bool good =
        is_marked(bytes + sizeof message, completion.byte_len - sizeof message, message.write + 2) &&
        is_marked(target.bytes.data() + message.place, message.size, message.write);
    std::lock_guard lock(mutex_);
    if (message.number != received_)
      fail("SEND " + std::to_string(message.number) + " where " + std::to_string(received_) + " was due");
    if (!good) fail("other bytes with SEND " + std::to_string(message.number));
    ++received_;
  }

 public:
  DomainPointer domain;

 private:
  const uint64_t operations_;
  std::mt19937_64 random_;
  Buffer out_;
  Buffer sink_;

 public:
  Buffer target;
  Buffer library;

 private:
  Buffer inbox_;

 public:
  // What peers know: it stays the same wherever this end moves.
  struct Remote {
    uint64_t address;
    uint32_t key;
  };
  const Remote remote_target;
  const Remote remote_library;

 private:
  Message last_{};
  std::mutex mutex_;
  std::condition_variable changed_;
  bool established_ = false;
  bool closed_ = false;
  std::string reason_;
  std::string failure_;
  uint64_t completed_ = 0;
  uint64_t received_ = 0;
  std::mutex gate_;  // held while the program stands still
  std::optional<fabric::MoveStep> step_;
  std::string problem_;
  std::atomic<bool> leaves_{false};
  std::atomic<int> lost_{0};
  std::atomic<int> restored_{0};

 public:
  std::unique_ptr<fabric::QueuePair> queue_pair;
};

}  // namespace rdma_migrate::test
