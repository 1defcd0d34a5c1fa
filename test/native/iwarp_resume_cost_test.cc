// What being resumable costs: the same traffic over a queue pair that is and one that is not, in turns in one
// run. The figures are printed; RDMA_MIGRATE_RESUME_COST_MS gives them more time.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "iwarp/provider.h"
#include "support/libcrypto.h"
#include "support/requests.h"

using namespace rdma_migrate;
using namespace rdma_migrate::test;

namespace {

using Clock = std::chrono::steady_clock;

struct Load {
  const char* name;
  fabric::Opcode opcode;
  size_t size;
  size_t depth;
};
constexpr std::array kLoads = {Load{"WRITE of 1 MiB, 16 under way", fabric::Opcode::kRdmaWrite, 1 << 20, 16},
                               Load{"SEND of 4 KiB, 256 under way", fabric::Opcode::kSend, 4096, 256},
                               Load{"SEND of 4 KiB, 128 under way", fabric::Opcode::kSend, 4096, 128},
                               Load{"SEND of 4 KiB, 64 under way", fabric::Opcode::kSend, 4096, 64},
                               Load{"SEND of 4 KiB, 16 under way", fabric::Opcode::kSend, 4096, 16}};

// Keeps depth operations under way for that long.
class Stream {
 public:
  Stream(fabric::Provider& provider, const Load& load, uint32_t window_ms) : load_(load) {
    PairOptions options;
    options.active.resume_window_ms = options.passive.resume_window_ms = window_ms;
    options.passive.max_recv_wr = 256;
    options.prepare = [&](Pair& pair) {
      from_ = std::make_unique<Buffer>(pair.active_domain, load.size);
      to_ = std::make_unique<Buffer>(pair.passive_domain, load.size, kRemoteAll);
      for (int at = 0; at < 256; ++at) pair.passive->post_recv(recv_of(*to_));
      pair.passive_events.recv_hook = [this, &pair](const fabric::Completion& each) {
        if (each.status == fabric::Status::kSuccess) pair.passive->post_recv(recv_of(*to_));
      };
      pair.active_events.send_hook = [this](const fabric::Completion&) {
        std::lock_guard lock(mutex_);
        ++done_;
        changed_.notify_one();
      };
    };
    options.may_send_at_once = true;
    pair_ = std::make_unique<Pair>(provider, options);
    pair_->active->allow_large_segments();
  }
  ~Stream() {
    pair_->close();
    from_.reset();
    to_.reset();
  }
  // Operations a second.
  double run(std::chrono::milliseconds time) {
    const auto begin = Clock::now();
    const uint64_t before = done_;
    uint64_t posted = before;
    const auto request =
        load_.opcode == fabric::Opcode::kSend
            ? send_of(*from_, load_.size)
            : rdma_of(load_.opcode, *from_, 0, to_->address(), to_->region->rkey(), load_.size);
    while (Clock::now() - begin < time) {
      for (; posted - done_ < load_.depth; ++posted) pair_->active->post_send(request);
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, std::chrono::seconds(10), [&] { return posted - done_ < load_.depth; });
    }
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(10), [&] { return posted == done_; });
    REQUIRE(posted == done_);
    return static_cast<double>(done_ - before) / std::chrono::duration<double>(Clock::now() - begin).count();
  }

 private:
  const Load& load_;
  std::unique_ptr<Buffer> from_;
  std::unique_ptr<Buffer> to_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<uint64_t> done_{0};
  std::unique_ptr<Pair> pair_;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace

TEST_CASE("the cost of being resumable") {
  REQUIRE(has_libcrypto);
  const std::chrono::milliseconds time(std::stoi(environment("RDMA_MIGRATE_RESUME_COST_MS", "10")));
  auto provider = iwarp::make_provider();
  for (const Load& load : kLoads) {
    Stream plain(*provider, load, 0);
    Stream resumable(*provider, load, 10'000);
    std::vector<double> without;
    std::vector<double> with;
    for (int round = 0; round < 7; ++round) {
      without.push_back(plain.run(time));
      with.push_back(resumable.run(time));
    }
    char text[160];
    std::snprintf(text, sizeof text, "%s: %.0f/s without, %.0f/s with (%.1f %% less)", load.name,
                  median(without), median(with), 100 * (1 - median(with) / median(without)));
    MESSAGE(std::string(text));
    CHECK(median(with) > 0);
  }
}
