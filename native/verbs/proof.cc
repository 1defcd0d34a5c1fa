#include "verbs/proof.h"

#include <condition_variable>
#include <mutex>
#include <optional>

namespace rdma_migrate::verbs {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kBytes = 1 << 20;

// One end: what has happened to it so far.
class End final : public fabric::QueuePairEvents {
 public:
  End(std::mutex& mutex, std::condition_variable& changed) : mutex_(mutex), changed_(changed) {}
  void on_established(std::span<const uint8_t>) override { note(established); }
  void on_send(std::span<const fabric::Completion> completions) override {
    if (completions.front().status == fabric::Status::kSuccess) note(sent);
  }
  void on_recv(std::span<const fabric::Completion> completions) override {
    if (completions.front().status == fabric::Status::kSuccess) note(received);
  }
  void on_closed(const Error* error) override {
    const std::lock_guard lock(mutex_);
    reason = error == nullptr ? "the connection ended" : error->what();
    closed = true;
    changed_.notify_all();
  }

  bool established = false, sent = false, received = false, closed = false;
  std::string reason;

 private:
  void note(bool& what) {
    const std::lock_guard lock(mutex_);
    what = true;
    changed_.notify_all();
  }

  std::mutex& mutex_;
  std::condition_variable& changed_;
};

class Loopback {
 public:
  Loopback(fabric::Provider& provider, std::chrono::milliseconds timeout)
      : provider_(provider),
        deadline_(Clock::now() + timeout),
        source_(kBytes),
        target_(kBytes),
        active_domain_(provider.open_domain()),
        passive_domain_(provider.open_domain()) {
    options_.connect_timeout_ms = static_cast<uint32_t>(timeout.count());
    for (size_t at = 0; at < kBytes; ++at) source_[at] = static_cast<uint8_t>(at * 131 + at / 251);
  }

  // Throws Error.
  void run(const std::string& host) {
    const auto take = [this](auto request) {
      const std::lock_guard lock(mutex_);
      if (!request_) request_ = std::move(request);
      changed_.notify_all();
    };
    const auto listener = provider_.listen({host, 0}, options_, {.request = take});
    active_ = active_domain_->create_queue_pair(options_, active_end_);
    passive_ = passive_domain_->create_queue_pair(options_, passive_end_);
    active_->connect({host, listener->port()}, {});
    wait("the connection request", [this] { return request_ != nullptr; });
    transfer();
    listener->close();
  }

 private:
  void transfer() {
    const auto region =
        passive_domain_->register_memory(reinterpret_cast<uintptr_t>(target_.data()), kBytes,
                                         fabric::kAccessLocalWrite | fabric::kAccessRemoteWrite);
    const auto local =
        active_domain_->register_memory(reinterpret_cast<uintptr_t>(source_.data()), kBytes, 0);
    // siw takes no RECV without a buffer.
    const auto inbox = passive_domain_->register_memory(reinterpret_cast<uintptr_t>(inbox_.data()),
                                                        inbox_.size(), fabric::kAccessLocalWrite);
    passive_->post_recv({1, inbox->address(), static_cast<uint32_t>(inbox_.size()), inbox->lkey()});
    passive_->accept(std::move(request_), {}, true);
    wait("the connection", [this] { return active_end_.established && passive_end_.established; });
    fabric::SendWorkRequest write;
    write.opcode = fabric::Opcode::kRdmaWrite;
    write.address = local->address();
    write.length = kBytes;
    write.lkey = local->lkey();
    write.remote_address = region->address();
    write.rkey = region->rkey();
    write.signaled = false;
    active_->post_send(write);
    active_->post_send(fabric::SendWorkRequest{});  // of nothing: the WRITE has been placed when it arrives
    wait("the WRITE", [this] { return active_end_.sent && passive_end_.received; });
    if (target_ != source_) throw Error("IO_ERROR", "the bytes that arrived are not those that were written");
    active_->close();
    passive_->close();
  }

  template <typename Ready>
  void wait(const char* what, Ready ready) {
    std::unique_lock lock(mutex_);
    const auto failed = [this] { return active_end_.closed || passive_end_.closed; };
    const bool in_time = changed_.wait_until(lock, deadline_, [&] { return ready() || failed(); });
    if (ready()) return;
    if (!in_time) throw Error("TIMEOUT", std::string(what) + " did not come in time");
    throw Error("CONNECTION_LOST", active_end_.closed ? active_end_.reason : passive_end_.reason);
  }

  fabric::Provider& provider_;
  const Clock::time_point deadline_;
  fabric::QueuePairOptions options_;
  fabric::Bytes source_;
  fabric::Bytes target_;
  fabric::Bytes inbox_ = fabric::Bytes(64);
  std::mutex mutex_;
  std::condition_variable changed_;
  // The events outlive their queue pairs.
  End active_end_{mutex_, changed_};
  End passive_end_{mutex_, changed_};
  std::unique_ptr<fabric::ConnectionRequest> request_;
  // The domains outlive their queue pairs, and those the memory that transfer() registers.
  const std::unique_ptr<fabric::Domain> active_domain_;
  const std::unique_ptr<fabric::Domain> passive_domain_;
  std::unique_ptr<fabric::QueuePair> active_;
  std::unique_ptr<fabric::QueuePair> passive_;
};

}  // namespace

fabric::Proof prove_loopback(fabric::Provider& provider, const std::string& host,
                             std::chrono::milliseconds timeout) {
  fabric::Proof proof;
  proof.address = host;
  const Clock::time_point start = Clock::now();
  try {
    Loopback(provider, timeout).run(host);
    proof.ok = true;
    proof.bytes = kBytes;
    proof.message = "a WRITE of 1 MiB to itself arrived whole";
  } catch (const std::exception& error) {
    proof.message = error.what();
  }
  proof.milliseconds = std::chrono::duration<double, std::milli>(Clock::now() - start).count();
  return proof;
}

}  // namespace rdma_migrate::verbs
