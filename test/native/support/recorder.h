// Records a queue pair's events so that a test can wait for them. Every wait has a deadline.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "fabric/fabric.h"

namespace rdma_migrate::test {

class Recorder : public fabric::QueuePairEvents {
 private:
  template <typename F>
  auto locked(F&& f) const {
    std::lock_guard lock(mutex_);
    return f();
  }

 public:
  void on_established(std::span<const uint8_t> private_data) override {
    std::lock_guard lock(mutex_);
    established_ = true;
    private_data_.assign(private_data.begin(), private_data.end());
    event();
  }
  void on_send(std::span<const fabric::Completion> completions) override {
    record(completions, sends_, send_hook);
  }
  void on_recv(std::span<const fabric::Completion> completions) override {
    record(completions, recvs_, recv_hook);
  }
  void on_notify() override {
    std::lock_guard lock(mutex_);
    ++notified_;
    event();
  }
  void on_receive_failed(const Error&) override {
    std::lock_guard lock(mutex_);
    receive_failed_ = true;
    event();
  }
  void on_move(fabric::MoveStep step, const Error* problem) override {
    std::lock_guard lock(mutex_);
    step_ = step;
    problem_ = problem == nullptr ? "" : problem->code();
    event();
  }
  void on_closed(const Error* reason) override {
    std::lock_guard lock(mutex_);
    ++closed_;
    if (reason != nullptr) reason_ = *reason;
    event();
  }

  void wait_established() {
    wait("on_established", [this] { return established_ || closed_ != 0; });
    if (!established()) throw std::runtime_error("closed instead of established: " + reason_text());
  }
  void wait_sends(size_t count) {
    wait("on_send", [&] { return sends_.size() >= count; });
  }
  void wait_recvs(size_t count) {
    wait("on_recv", [&] { return recvs_.size() >= count; });
  }
  void wait_receive_failed() {
    wait("on_receive_failed", [this] { return receive_failed_; });
  }
  void wait_notified(int count) {
    wait("on_notify", [&] { return notified_ >= count; });
  }
  // The code of the problem, or "".
  std::string wait_step(fabric::MoveStep step) {
    wait("on_move", [&] { return step_ == step; });
    std::lock_guard lock(mutex_);
    step_.reset();
    return problem_;
  }
  void wait_closed() {
    wait("on_closed", [this] { return closed_ != 0; });
  }

  bool established() const {
    return locked([this] { return established_; });
  }
  fabric::Bytes private_data() const {
    return locked([this] { return private_data_; });
  }
  std::vector<fabric::Completion> sends() const {
    return locked([this] { return sends_; });
  }
  std::vector<fabric::Completion> recvs() const {
    return locked([this] { return recvs_; });
  }
  int closed() const {
    return locked([this] { return closed_; });
  }
  // Events that came after on_closed.
  int late_events() const {
    return locked([this] { return late_; });
  }
  // "" for an orderly end.
  std::string reason_code() const {
    return locked([this] { return reason_ ? reason_->code() : std::string(); });
  }
  std::string reason_text() const {
    return locked([this] { return reason_ ? std::string(reason_->what()) : std::string("an orderly end"); });
  }

  // Empty batches, which no provider may report.
  int empty_batches() const {
    return locked([this] { return empty_; });
  }

  // Called for each completion after it is recorded. Set before the queue pair starts.
  std::function<void(const fabric::Completion&)> send_hook;
  std::function<void(const fabric::Completion&)> recv_hook;

 private:
  using Hook = std::function<void(const fabric::Completion&)>;
  void record(std::span<const fabric::Completion> completions, std::vector<fabric::Completion>& to,
              const Hook& hook) {
    {
      std::lock_guard lock(mutex_);
      to.insert(to.end(), completions.begin(), completions.end());
      if (completions.empty()) ++empty_;
      event();
    }
    if (!hook) return;
    for (const fabric::Completion& completion : completions) hook(completion);
  }
  void event() {
    if (closed_ > 1 || (closed_ == 1 && seen_closed_)) ++late_;
    if (closed_ == 1) seen_closed_ = true;
    changed_.notify_all();
  }
  template <typename F>
  void wait(const char* what, F&& done) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, std::chrono::seconds(60), done))
      throw std::runtime_error(std::string("no ") + what);
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool established_ = false;
  bool receive_failed_ = false;
  bool seen_closed_ = false;
  std::optional<fabric::MoveStep> step_;
  std::string problem_;
  int closed_ = 0;
  int late_ = 0;
  int empty_ = 0;
  int notified_ = 0;
  fabric::Bytes private_data_;
  std::vector<fabric::Completion> sends_;
  std::vector<fabric::Completion> recvs_;
  std::optional<Error> reason_;
};

}  // namespace rdma_migrate::test
