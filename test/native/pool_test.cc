// The pool: its lanes do not wait for each other, and its threads are bounded and go.
#include "pool.h"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace rdma_migrate {
namespace {

// Holds work back until it is opened.
class Gate {
 public:
  void pass() {
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
  }
  void open() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  bool wait_waiting(size_t count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(60), [&] { return waiting_ >= count; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t waiting_ = 0;
  bool open_ = false;
};

template <class Condition>
bool comes_true(const Condition& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!condition() && std::chrono::steady_clock::now() < deadline)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return condition();
}

TEST_CASE("a lane whose threads are all held up delays no other") {
  Pool pool;
  Gate gate;
  const size_t most = Pool::most_threads(WorkLane::kBulk);
  std::atomic<size_t> bulk{0};
  for (size_t i = 0; i < 2 * most; ++i) {
    pool.run(WorkLane::kBulk, [&] {
      gate.pass();
      ++bulk;
    });
  }
  REQUIRE(gate.wait_waiting(most));
  for (const WorkLane lane : {WorkLane::kRegister, WorkLane::kClose, WorkLane::kLookUp}) {
    std::atomic<bool> done{false};
    pool.run(lane, [&] { done = true; });
    CHECK(comes_true([&] { return done.load(); }));
  }
  CHECK(bulk == 0);
  gate.open();
  CHECK(comes_true([&] { return bulk == 2 * most; }));
}

TEST_CASE("a lane has no more threads than it may, and runs all of its work") {
  Pool pool;
  Gate gate;
  std::atomic<size_t> done{0};
  for (size_t i = 0; i < 1000; ++i) {
    pool.run(WorkLane::kClose, [&] {
      gate.pass();
      ++done;
    });
  }
  CHECK(pool.threads(WorkLane::kClose) == Pool::most_threads(WorkLane::kClose));
  gate.open();
  CHECK(comes_true([&] { return done == 1000; }));
}

TEST_CASE("one thread is enough for work that comes one after the other") {
  Pool pool;
  for (int i = 0; i < 100; ++i) {
    std::atomic<bool> done{false};
    pool.run(WorkLane::kClose, [&] { done = true; });
    REQUIRE(comes_true([&] { return done.load(); }));
    std::this_thread::sleep_for(std::chrono::microseconds(200));  // it waits for work again
  }
  CHECK(pool.threads(WorkLane::kClose) <= Pool::most_threads(WorkLane::kClose));
  CHECK(pool.threads(WorkLane::kBulk) == 0);
}

TEST_CASE("threads without work end, and others start when there is some") {
  Pool pool(20);
  for (int round = 0; round < 3; ++round) {
    std::atomic<int> done{0};
    for (int i = 0; i < 10; ++i) pool.run(WorkLane::kBulk, [&] { ++done; });
    CHECK(comes_true([&] { return done == 10; }));
    CHECK(comes_true([&] { return pool.threads(WorkLane::kBulk) == 0; }));
  }
}

TEST_CASE("a pool that goes waits for what runs, and drops what has not begun") {
  std::atomic<size_t> begun{0}, done{0};
  {
    Pool pool;
    for (size_t i = 0; i < 100; ++i) {
      pool.run(WorkLane::kClose, [&] {
        ++begun;
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        ++done;
      });
    }
  }
  CHECK(begun == done);
  CHECK(done < 100);
}

}  // namespace
}  // namespace rdma_migrate
