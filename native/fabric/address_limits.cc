#include "fabric/address_limits.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>

#include "fabric/hex.h"

namespace rdma_migrate::fabric {

std::string address_key(const std::string& peer_address) {
  const std::string host = peer_address.substr(0, peer_address.rfind(':'));
  if (host.size() < 2 || host.front() != '[' || host.back() != ']') return host;
  const std::string inside = host.substr(1, host.size() - 2);
  in6_addr address{};
  if (inet_pton(AF_INET6, inside.substr(0, inside.find('%')).c_str(), &address) != 1) return host;
  if (IN6_IS_ADDR_V4MAPPED(&address)) {
    std::array<char, INET_ADDRSTRLEN> text{};
    inet_ntop(AF_INET, &address.s6_addr[12], text.data(), text.size());
    return text.data();
  }
  if (IN6_IS_ADDR_LINKLOCAL(&address)) return inside;
  return "net " + hex_of({address.s6_addr, 8});
}

bool AddressLimits::may_come(const std::string& peer_address, Clock::time_point now) {
  if (per_second_ == 0) return true;
  const std::string host = peer_address.substr(0, peer_address.rfind(':'));
  const std::string key = address_key(peer_address);
  std::lock_guard lock(mutex_);
  const bool is_rare = take(host, now);
  if (!is_rare && addresses_ == Addresses::kProved) return false;
  // After those of itself alone, so that one host uses up little of what its network has.
  const bool is_rare_there = take("all of " + key, now);
  return (is_rare && is_rare_there) || all_unanswered_ < kFewLeft;
}

bool AddressLimits::take(const std::string& key, Clock::time_point now) {
  Bucket& bucket = bucket_of(key, now);
  const std::chrono::duration<double> passed = std::max(now - bucket.filled, Clock::duration::zero());
  bucket.tokens = std::min(burst_, bucket.tokens + passed.count() * per_second_);
  bucket.filled = now;
  if (bucket.tokens < 1) return false;
  bucket.tokens -= 1;
  return true;
}

AddressLimits::Bucket& AddressLimits::bucket_of(const std::string& key, Clock::time_point now) {
  const auto known = by_key_.find(key);
  if (known != by_key_.end()) {
    buckets_.splice(buckets_.begin(), buckets_, known->second);
    return buckets_.front();
  }
  if (buckets_.size() >= kMostAddresses) {
    by_key_.erase(buckets_.back().key);
    buckets_.pop_back();
  }
  buckets_.push_front({key, burst_, now});
  by_key_[key] = buckets_.begin();
  return buckets_.front();
}

std::shared_ptr<void> AddressLimits::place(const std::shared_ptr<AddressLimits>& limits,
                                           const std::string& key) {
  {
    std::lock_guard lock(limits->mutex_);
    size_t& count = limits->unanswered_[key];
    if (limits->any() && count >= kMostUnanswered) return nullptr;
    ++count;
    ++limits->all_unanswered_;
  }
  return {limits.get(), [limits, key](void*) {
            std::lock_guard lock(limits->mutex_);
            --limits->all_unanswered_;
            const auto found = limits->unanswered_.find(key);
            if (--found->second == 0) limits->unanswered_.erase(found);
          }};
}

size_t AddressLimits::unanswered() const {
  std::lock_guard lock(mutex_);
  return all_unanswered_;
}

}  // namespace rdma_migrate::fabric
