// What takes long to destroy, or for ever, on threads of its own. Needs no device.
#include <dirent.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "verbs/leftovers.h"

using namespace rdma_migrate::verbs;

namespace {

// A driver that lets nobody go until it is opened.
struct Gate {
  std::mutex mutex;
  std::condition_variable changed;
  bool open = false;
  size_t waiting = 0;

  void pass() {
    std::unique_lock lock(mutex);
    ++waiting;
    changed.notify_all();
    changed.wait(lock, [this] { return open; });
  }
  void open_up() {
    std::lock_guard lock(mutex);
    open = true;
    changed.notify_all();
  }
  bool wait_for(size_t count) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, std::chrono::seconds(60), [&] { return waiting >= count; });
  }
};

struct Stuck {
  Stuck(Gate& at, std::atomic<size_t>& count) : gate(at), gone(count) {}
  ~Stuck() {
    gate.pass();
    ++gone;
  }
  Gate& gate;
  std::atomic<size_t>& gone;
};

struct Easy {
  explicit Easy(std::atomic<size_t>& count) : gone(count) {}
  ~Easy() { ++gone; }
  std::atomic<size_t>& gone;
};

bool soon(const std::function<bool()>& holds) {
  for (int pause = 0; pause < 6000 && !holds(); ++pause)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  return holds();
}

size_t tasks() {
  size_t count = 0;
  DIR* directory = opendir("/proc/self/task");
  while (readdir(directory) != nullptr) ++count;
  closedir(directory);
  return count - 2;  // . and ..
}

// Beside those that are there anyhow: this one, and a sanitizer's, which begins with the first that is made.
size_t threads() {
  static const size_t others = [] {
    std::thread([] {}).join();
    size_t least = tasks();  // one that has been joined may be a task for a moment still
    for (int look = 0; look < 100; ++look) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      least = std::min(least, tasks());
    }
    return least;
  }();
  return tasks() - others;
}

// Leftovers live until the process ends: they are kept, so that they are no leak.
Leftovers& fresh() {
  static auto& all = *new std::vector<Leftovers*>;
  return *all.emplace_back(new Leftovers);
}

}  // namespace

TEST_CASE("what hangs while it is destroyed holds up neither who gave it up nor what comes after it") {
  Leftovers& leftovers = fresh();
  REQUIRE(threads() == 0);
  Gate gate;
  std::atomic<size_t> stuck_gone{0};
  std::atomic<size_t> easy_gone{0};
  constexpr size_t kStuck = 5;
  for (size_t count = 1; count <= kStuck; ++count) {
    leftovers.destroy(std::make_shared<Stuck>(gate, stuck_gone));
    leftovers.destroy(std::make_shared<Easy>(easy_gone));
    REQUIRE(gate.wait_for(count));
    REQUIRE(soon([&] { return easy_gone == count; }));
  }
  CHECK(stuck_gone == 0);
  gate.open_up();
  CHECK(soon([&] { return stuck_gone == kStuck; }));
  CHECK(soon([] { return threads() == 0; }));
}

TEST_CASE("one thread destroys what does not hang, and ends") {
  Leftovers& leftovers = fresh();
  REQUIRE(threads() == 0);
  std::atomic<size_t> gone{0};
  for (int round = 0; round < 1000; ++round) leftovers.destroy(std::make_shared<Easy>(gone));
  // With the one that looks whether it gets on. One that has ended may be a task for a moment still.
  CHECK(soon([] { return threads() <= 2; }));
  CHECK(soon([&] { return gone == 1000; }));
  CHECK(soon([] { return threads() == 0; }));
}

TEST_CASE("the threads that hang are bounded; what waits for one goes when one is free") {
  Leftovers& leftovers = fresh();
  Gate gate;
  std::atomic<size_t> gone{0};
  constexpr size_t kMany = Leftovers::kMaxThreads + 3;
  for (size_t count = 0; count < kMany; ++count) leftovers.destroy(std::make_shared<Stuck>(gate, gone));
  REQUIRE(gate.wait_for(Leftovers::kMaxThreads));
  CHECK(threads() == Leftovers::kMaxThreads);
  leftovers.destroy(std::make_shared<Stuck>(gate, gone));
  CHECK(threads() == Leftovers::kMaxThreads);
  gate.open_up();
  CHECK(soon([&] { return gone == kMany + 1; }));
  CHECK(soon([] { return threads() == 0; }));
}

TEST_CASE("a thing that others have a share of goes with the last share") {
  Leftovers& leftovers = fresh();
  std::atomic<size_t> gone{0};
  auto shared = std::make_shared<Easy>(gone);
  leftovers.destroy(shared);
  std::atomic<size_t> after{0};
  leftovers.destroy(std::make_shared<Easy>(after));
  REQUIRE(soon([&] { return after == 1; }));
  CHECK(gone == 0);
  shared.reset();
  CHECK(gone == 1);
}

TEST_CASE("what a thing leaves behind while it is destroyed goes too") {
  struct Outer {
    Leftovers& leftovers;
    std::shared_ptr<Easy> inner;
    ~Outer() { leftovers.destroy(std::move(inner)); }
  };
  Leftovers& leftovers = fresh();
  std::atomic<size_t> gone{0};
  leftovers.destroy(std::shared_ptr<Outer>(new Outer{leftovers, std::make_shared<Easy>(gone)}));
  CHECK(soon([&] { return gone == 1; }));
}
