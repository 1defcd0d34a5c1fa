// What one address may take of a listener, so that a flood from one leaves room for the others.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

namespace rdma_migrate::fabric {

// "192.0.2.1:4444" and "[::ffff:192.0.2.1]:4444" as 192.0.2.1, an IPv6 address as its network of 64 bits,
// of which one host may have every address. Those of a link are on all of them the same network: such an
// address as it is, with its zone. Anything else as it is, too.
std::string address_key(const std::string& peer_address);

// Whether nobody can be somewhere else than it says: TCP has an answer from there, RoCE has not.
enum class Addresses { kProved, kClaimed };

// Any thread.
class AddressLimits {
 public:
  using Clock = std::chrono::steady_clock;
  // Requests of one address that nobody has answered yet.
  static constexpr size_t kMostUnanswered = 32;
  // Addresses whose connections are counted; beyond, the one that was quiet longest is forgotten.
  static constexpr size_t kMostAddresses = 1024;
  // So many seconds' worth of connections may come at once, and in any case as many as two migrations make.
  static constexpr uint32_t kBurstSeconds = 4;
  static constexpr uint32_t kLeastBurst = 32;
  // Unanswered requests of all from which on it counts how often a network of 64 bits comes, and an address
  // that is only claimed. As long as there is room nobody is sent away for what a neighbour does.
  static constexpr size_t kFewLeft = 32;

  // per_second: connections of one address, in the long run. 0: no address is limited in anything.
  explicit AddressLimits(uint32_t per_second, Addresses addresses = Addresses::kProved)
      : per_second_(per_second),
        addresses_(addresses),
        burst_(std::max(static_cast<double>(per_second) * kBurstSeconds, double{kLeastBurst})) {}

  bool any() const { return per_second_ != 0; }

  // Counts one that has come, from an address with its port. False: it came too soon after those before it,
  // and is to be sent away.
  bool may_come(const std::string& peer_address, Clock::time_point now);

  // A request of that address is unanswered as long as the result lives; nullptr: it has too many already.
  // The limits live as long, too.
  static std::shared_ptr<void> place(const std::shared_ptr<AddressLimits>& limits, const std::string& key);
  size_t unanswered() const;

 private:
  struct Bucket {
    std::string key;
    double tokens;
    Clock::time_point filled;
  };
  bool take(const std::string& key, Clock::time_point now);
  Bucket& bucket_of(const std::string& key, Clock::time_point now);

  const uint32_t per_second_;
  const Addresses addresses_;
  const double burst_;
  mutable std::mutex mutex_;
  std::list<Bucket> buckets_;  // the one that was used last at the front
  std::unordered_map<std::string, std::list<Bucket>::iterator> by_key_;
  std::unordered_map<std::string, size_t> unanswered_;
  size_t all_unanswered_ = 0;
};

}  // namespace rdma_migrate::fabric
