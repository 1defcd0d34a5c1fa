// Two connected endpoints of the software RNIC in this process, with their writers.
#pragma once

#include <map>
#include <set>
#include <string>

#include "engine/endpoint.h"
#include "iwarp/provider.h"
#include "support/pair.h"

namespace rdma_migrate::test {

class EndpointWatcher final : public engine::EndpointObserver {
 public:
  void established(fabric::Bytes) override { happened(established_); }
  void message_arrived() override { happened(messages_); }
  void message_sent(uint64_t, bool) override {}
  void rail_established(uint64_t, fabric::Bytes) override { happened(rails_); }
  void rail_refused(uint64_t, Error reason) override {
    {
      std::lock_guard lock(mutex_);
      refusal_ = reason;
    }
    happened(refused_);
  }
  void barrier_passed(uint64_t token) override {
    {
      std::lock_guard lock(mutex_);
      passed_.insert(token);
    }
    happened(barriers_);
  }
  void receive_failed(Error reason) override {
    {
      std::lock_guard lock(mutex_);
      choked_ = reason;
    }
    happened(receive_failures_);
  }
  void closed(std::optional<Error> reason) override {
    {
      std::lock_guard lock(mutex_);
      reason_ = std::move(reason);
    }
    happened(closed_);
  }

  void wait_established() { wait(established_); }
  void wait_message() { wait(messages_); }
  void wait_rails(int count) { wait(rails_, count); }
  void wait_refused() { wait(refused_); }
  void wait_barriers(int count) { wait(barriers_, count); }
  void wait_receive_failed() { wait(receive_failures_); }
  void wait_closed() {
    std::unique_lock lock(mutex_);
    REQUIRE(changed_.wait_for(lock, std::chrono::seconds(60), [&] { return closed_ > 0; }));
  }
  int barriers() const { return value(barriers_); }
  int ends() const { return value(closed_); }
  std::optional<Error> reason() const {
    std::lock_guard lock(mutex_);
    return reason_;
  }
  Error refusal() const {
    std::lock_guard lock(mutex_);
    return refusal_.value();
  }
  Error receive_failure() const {
    std::lock_guard lock(mutex_);
    return choked_.value();
  }
  std::set<uint64_t> passed() const {
    std::lock_guard lock(mutex_);
    return passed_;
  }

 private:
  int value(const int& of) const {
    std::lock_guard lock(mutex_);
    return of;
  }
  void happened(int& what) {
    std::lock_guard lock(mutex_);
    ++what;
    changed_.notify_all();
  }
  void wait(const int& what, int count = 1) {
    std::unique_lock lock(mutex_);
    REQUIRE(changed_.wait_for(lock, std::chrono::seconds(60), [&] { return what >= count || closed_ > 0; }));
    REQUIRE(what >= count);
  }
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  int established_ = 0, messages_ = 0, rails_ = 0, refused_ = 0, barriers_ = 0, receive_failures_ = 0,
      closed_ = 0;
  std::set<uint64_t> passed_;
  std::optional<Error> reason_, refusal_, choked_;
};

struct EndpointPair {
  // rails: queue pairs in all, as users count channels.
  explicit EndpointPair(const fabric::QueuePairOptions& options = {}, size_t rails = 1)
      : provider(iwarp::make_provider()), acceptor(*provider, options) {
    source = std::make_unique<engine::Endpoint>(provider->open_domain(), options, source_events);
    destination = std::make_unique<engine::Endpoint>(provider->open_domain(), options, destination_events);
    source->queue_pair().connect(acceptor.endpoint(), {});
    destination->queue_pair().accept(acceptor.next(), {}, true);
    source_events.wait_established();
    destination_events.wait_established();
    for (size_t rail = 1; rail < rails; ++rail) {
      source->connect_rail(acceptor.endpoint(), {}, options.connect_timeout_ms, rail);
      destination->accept_rail(acceptor.next(), {}, rail);
      source_events.wait_rails(static_cast<int>(rail));
      destination_events.wait_rails(static_cast<int>(rail));
    }
  }
  ~EndpointPair() {
    source->close();
    destination->close();
  }
  // Everything written so far has been placed when this returns. Once.
  void sync() {
    const uint8_t byte = 1;
    REQUIRE(source->send({&byte, 1}, 1));
    destination_events.wait_message();
  }

  EndpointWatcher source_events, destination_events;
  std::unique_ptr<fabric::Provider> provider;
  Acceptor acceptor;
  std::unique_ptr<engine::Endpoint> source, destination;
};

}  // namespace rdma_migrate::test
