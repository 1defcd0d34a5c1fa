// A domain whose queue pairs do what the test says: what is posted stays until the test completes it.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "fabric/fabric.h"

namespace rdma_migrate::test {

class ScriptedRegion final : public fabric::MemoryRegion {
 public:
  ScriptedRegion(uint64_t address, uint64_t length, uint32_t key)
      : address_(address), length_(length), key_(key) {}
  uint64_t address() const override { return address_; }
  uint64_t length() const override { return length_; }
  uint32_t lkey() const override { return key_; }
  uint32_t rkey() const override { return key_; }

 private:
  const uint64_t address_, length_;
  const uint32_t key_;
};

// Its events come on a thread of its own, one at a time, as a provider's do.
class ScriptedQueuePair final : public fabric::QueuePair {
 public:
  explicit ScriptedQueuePair(fabric::QueuePairEvents& events) : events_(events) {
    thread_ = std::thread([this] { run(); });
  }
  ~ScriptedQueuePair() override { close(); }

  size_t post_send(std::span<const fabric::SendWorkRequest> requests) override {
    const char* refusal;
    {
      std::lock_guard lock(mutex_);
      refusal = refusal_;
      if (refusal != nullptr && taken_ == 0) throw Error(refusal, "scripted");
      if (refusal != nullptr) requests = requests.first(std::min(taken_, requests.size()));
      posted_.insert(posted_.end(), requests.begin(), requests.end());
    }
    changed_.notify_all();
    if (refusal != nullptr) throw fabric::BadWorkRequest(Error(refusal, "scripted"), requests.size());
    for (const auto& request : requests) {
      if (complete_at_once && request.signaled) complete(request, fabric::Status::kSuccess);
    }
    return requests.size();
  }
  size_t post_recv(std::span<const fabric::RecvWorkRequest> requests) override {
    std::lock_guard lock(mutex_);
    if (recv_refusal != nullptr) throw Error(recv_refusal, "scripted");
    receives_.insert(receives_.end(), requests.begin(), requests.end());
    return requests.size();
  }
  void notify() override {
    if (!notified_.exchange(true))
      event([this] {
        notified_.store(false);
        events_.on_notify();
      });
  }
  void connect(const fabric::Endpoint&, std::span<const uint8_t>) override {}
  void accept(std::unique_ptr<fabric::ConnectionRequest>, std::span<const uint8_t>, bool) override {}
  void disconnect() override {}
  void close() override {
    end(nullptr);
    std::lock_guard lock(close_mutex_);
    if (thread_.joinable()) thread_.join();
  }
  fabric::QueuePairState state() const override { return state_.load(); }
  fabric::QueuePairInfo info() const override { return {}; }
  const fabric::Counters& counters() const override { return counters_; }

  // What the test says.
  void establish() {
    event([this] {
      state_.store(fabric::QueuePairState::kRts);
      events_.on_established({});
    });
  }
  void complete(const fabric::SendWorkRequest& request, fabric::Status status) {
    event([this, completion = fabric::Completion{request.wr_id, request.opcode, status, 0}] {
      events_.on_send(std::span(&completion, 1));
    });
  }
  // The peer's SEND. False: no RECV is posted.
  bool receive(const fabric::Bytes& message) {
    fabric::RecvWorkRequest into;
    {
      std::lock_guard lock(mutex_);
      if (receives_.empty()) return false;
      into = receives_.front();
      receives_.pop_front();
    }
    event([this, into, message] {
      std::copy_n(message.begin(), std::min<size_t>(message.size(), into.length),
                  reinterpret_cast<uint8_t*>(into.address));
      const fabric::Completion completion{into.wr_id, fabric::Opcode::kRecv, fabric::Status::kSuccess,
                                          static_cast<uint32_t>(message.size())};
      events_.on_recv(std::span(&completion, 1));
    });
    return true;
  }
  void choke(const Error& reason) {
    // A string of its own: the sanitizer does not see how the standard library's exceptions share theirs.
    event([this, code = reason.code(), what = std::string(reason.what())] {
      events_.on_receive_failed(Error(code, what));
    });
  }
  // Its last event.
  void end(const Error* reason) {
    std::shared_ptr<const Error> why = reason == nullptr ? nullptr : std::make_shared<Error>(*reason);
    event(
        [this, why] {
          state_.store(fabric::QueuePairState::kError);
          events_.on_closed(why.get());
        },
        true);
  }
  // With this code, after the first `taken` requests of a batch; nullptr: no more.
  void refuse(const char* code, size_t taken = 0) {
    std::lock_guard lock(mutex_);
    refusal_ = code;
    taken_ = taken;
  }
  // Whether the caller is in one of its events.
  bool is_here() const { return std::this_thread::get_id() == thread_.get_id(); }
  std::vector<fabric::SendWorkRequest> posted() {
    std::lock_guard lock(mutex_);
    return posted_;
  }
  void wait_posted(size_t count) {
    std::unique_lock lock(mutex_);
    REQUIRE(changed_.wait_for(lock, std::chrono::seconds(60), [&] { return posted_.size() >= count; }));
  }
  // What has been asked for so far has been done.
  void settle() {
    std::unique_lock lock(mutex_);
    REQUIRE(changed_.wait_for(lock, std::chrono::seconds(60), [&] { return tasks_.empty() && !busy_; }));
  }

  std::atomic<bool> complete_at_once{false};
  const char* recv_refusal = nullptr;

 private:
  void event(std::function<void()> task, bool last = false) {
    std::lock_guard lock(mutex_);
    if (ended_) return;
    ended_ = last;
    tasks_.push_back(std::move(task));
    changed_.notify_all();
  }
  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return !tasks_.empty() || ended_; });
      if (tasks_.empty()) return;
      const auto task = std::move(tasks_.front());
      tasks_.pop_front();
      busy_ = true;
      lock.unlock();
      task();
      lock.lock();
      busy_ = false;
      changed_.notify_all();
    }
  }

  fabric::QueuePairEvents& events_;
  std::atomic<fabric::QueuePairState> state_{fabric::QueuePairState::kInit};
  std::atomic<bool> notified_{false};
  fabric::Counters counters_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  std::vector<fabric::SendWorkRequest> posted_;
  std::deque<fabric::RecvWorkRequest> receives_;
  const char* refusal_ = nullptr;
  size_t taken_ = 0;
  bool ended_ = false, busy_ = false;
  std::mutex close_mutex_;
  std::thread thread_;
};

class ScriptedDomain final : public fabric::Domain {
 public:
  static constexpr uint32_t kKey = 99;

  std::unique_ptr<fabric::MemoryRegion> register_memory(uint64_t address, uint64_t length,
                                                        unsigned) override {
    ++registrations;
    registering();
    if (refuse_registration) throw Error("LOCKED_MEMORY_LIMIT", "scripted");
    return std::make_unique<ScriptedRegion>(address, length, kKey);
  }
  void revoke_remote_access() override {}
  bool pins_memory() const override { return false; }
  std::unique_ptr<fabric::QueuePair> create_queue_pair(const fabric::QueuePairOptions&,
                                                       fabric::QueuePairEvents& events) override {
    auto queue_pair = std::make_unique<ScriptedQueuePair>(events);
    queue_pair->recv_refusal = recv_refusal;
    queue_pairs.push_back(queue_pair.get());
    return queue_pair;
  }

  std::atomic<int> registrations{0};
  std::atomic<bool> refuse_registration{false};
  std::function<void()> registering = [] {};
  const char* recv_refusal = nullptr;  // of the queue pairs to come
  std::vector<ScriptedQueuePair*> queue_pairs;
};

}  // namespace rdma_migrate::test
