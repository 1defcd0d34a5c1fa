// Two connected queue pairs of one provider in this process, each with a domain of its own.
#pragma once

#include <algorithm>
#include <optional>

#include "support/host.h"
#include "support/recorder.h"

namespace rdma_migrate::test {

// Accepts one request at a time.
class Acceptor {
 public:
  explicit Acceptor(fabric::Provider& provider, const fabric::QueuePairOptions& options = {},
                    const std::string& host = test_host())
      : host_(host) {
    const auto take = [this](std::unique_ptr<fabric::ConnectionRequest> request) {
      std::lock_guard lock(mutex_);
      requests_.push_back(std::move(request));
      changed_.notify_all();
    };
    const auto fail = [this](const Error& error) {
      std::lock_guard lock(mutex_);
      failure_ = error;
      changed_.notify_all();
    };
    listener_ = provider.listen({host, 0}, options, {.request = take, .failed = fail});
  }
  fabric::Endpoint endpoint() const { return {host_, listener_->port()}; }
  fabric::Listener& listener() { return *listener_; }
  std::unique_ptr<fabric::ConnectionRequest> next() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, std::chrono::seconds(60), [this] { return !requests_.empty(); })) {
      throw std::runtime_error("no connection request");
    }
    std::unique_ptr<fabric::ConnectionRequest> request = std::move(requests_.front());
    requests_.erase(requests_.begin());
    return request;
  }
  // Why it listens no more.
  Error failure() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, std::chrono::seconds(60), [this] { return failure_.has_value(); })) {
      throw std::runtime_error("the listener has not failed");
    }
    return *failure_;
  }
  size_t waiting() {
    std::lock_guard lock(mutex_);
    return requests_.size();
  }

 private:
  const std::string host_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::unique_ptr<fabric::ConnectionRequest>> requests_;
  std::optional<Error> failure_;
  std::unique_ptr<fabric::Listener> listener_;  // last: its thread uses the members above
};

using DomainPointer = std::shared_ptr<fabric::Domain>;
inline DomainPointer open_domain(fabric::Provider& provider) { return provider.open_domain(); }

// A buffer with its registration, which keeps its domain.
struct Buffer {
  Buffer(DomainPointer of, size_t size, unsigned access = fabric::kAccessLocalWrite, uint8_t fill = 0)
      : bytes(size, fill),
        domain(std::move(of)),
        region(domain->register_memory(reinterpret_cast<uintptr_t>(bytes.data()), size, access)) {}
  // Never by assigning to bytes, which would move them away from the registered place.
  void fill(const fabric::Bytes& with) { std::copy(with.begin(), with.end(), bytes.begin()); }
  uint64_t address(size_t offset = 0) const { return region->address() + offset; }
  // Goes on elsewhere in memory, in another domain, as what it was for work requests and peers.
  void move(DomainPointer to, unsigned access) {
    const fabric::MovedRegion was{region->lkey(), region->address(), bytes.size(), access};
    region.reset();
    fabric::Bytes copy(bytes);
    std::fill(bytes.begin(), bytes.end(), uint8_t{0xee});
    bytes.swap(copy);
    domain = std::move(to);
    region = domain->register_as(was, reinterpret_cast<uintptr_t>(bytes.data()));
  }

  fabric::Bytes bytes;
  DomainPointer domain;
  std::unique_ptr<fabric::MemoryRegion> region;
};

class Pair;

struct PairOptions {
  fabric::QueuePairOptions active;
  fabric::QueuePairOptions passive;
  std::string host = test_host();
  fabric::Bytes request_data;
  fabric::Bytes reply_data;
  // Between the making of the ends and the handshake: the place to register memory and post RECVs.
  std::function<void(Pair& pair)> prepare;
  bool may_send_at_once = false;
};

class Pair {
 public:
  Pair(fabric::Provider& provider, const PairOptions& options)
      : active_domain(open_domain(provider)), passive_domain(open_domain(provider)) {
    Acceptor acceptor(provider, options.passive, options.host);
    active = active_domain->create_queue_pair(options.active, active_events);
    active->connect(acceptor.endpoint(), options.request_data);
    std::unique_ptr<fabric::ConnectionRequest> request = acceptor.next();
    request_data.assign(request->private_data().begin(), request->private_data().end());
    passive = passive_domain->create_queue_pair(options.passive, passive_events);
    if (options.prepare) options.prepare(*this);
    passive->accept(std::move(request), options.reply_data, options.may_send_at_once);
    active_events.wait_established();
    passive_events.wait_established();
  }
  explicit Pair(fabric::Provider& provider) : Pair(provider, PairOptions{}) {}
  void close() {
    active->close();
    passive->close();
  }

  // The events and domains outlive their queue pairs.
  Recorder active_events;
  Recorder passive_events;
  fabric::Bytes request_data;
  DomainPointer active_domain;
  DomainPointer passive_domain;
  std::unique_ptr<fabric::QueuePair> active;
  std::unique_ptr<fabric::QueuePair> passive;
};

}  // namespace rdma_migrate::test
