#include <doctest/doctest.h>

#include <vector>

#include "fabric/address_limits.h"

namespace rdma_migrate::fabric {
namespace {

using std::chrono::milliseconds;

const AddressLimits::Clock::time_point kStart{};

size_t let_in(AddressLimits& limits, const std::string& key, size_t tries,
              AddressLimits::Clock::time_point now) {
  size_t count = 0;
  for (size_t i = 0; i < tries; ++i) count += limits.may_come(key, now);
  return count;
}

TEST_CASE("an address is known by its host, an IPv6 address by its network, one of a link by all of it") {
  CHECK(address_key("192.0.2.1:4444") == "192.0.2.1");
  CHECK(address_key("[::ffff:192.0.2.1]:4444") == "192.0.2.1");
  CHECK(address_key("[2001:db8::1]:1") == address_key("[2001:db8::ffff:2]:2"));
  CHECK(address_key("[2001:db8:0:1::1]:1") != address_key("[2001:db8::1]:1"));
  CHECK(address_key("[fe80::1%eth0]:1") == address_key("[fe80::1%eth0]:2"));
  CHECK(address_key("[fe80::1%eth0]:1") != address_key("[fe80::2%eth0]:1"));
  CHECK(address_key("[fe80::1%eth0]:1") != address_key("[fe80::1%eth1]:1"));
  CHECK(address_key("unknown") == "unknown");
}

// So many requests of others wait that the rate of a network counts.
std::vector<std::shared_ptr<void>> crowd(const std::shared_ptr<AddressLimits>& limits) {
  std::vector<std::shared_ptr<void>> places;
  for (size_t i = 0; i < AddressLimits::kFewLeft; ++i)
    places.push_back(AddressLimits::place(limits, "waits " + std::to_string(i)));
  return places;
}

TEST_CASE("a host pays for what others of its network do only while there is little room") {
  const auto limits = std::make_shared<AddressLimits>(1);
  for (size_t i = 1; i <= 100; ++i)
    CHECK(limits->may_come("[2001:db8::" + std::to_string(i) + "]:1", kStart));
  CHECK(let_in(*limits, "[2001:db8::1]:2", 100, kStart) == AddressLimits::kLeastBurst - 1);
  CHECK(limits->may_come("[2001:db8::ffff]:1", kStart));
  const auto places = crowd(limits);
  CHECK_FALSE(limits->may_come("[2001:db8::ffff]:1", kStart));
  CHECK(limits->may_come("[2001:db8:0:1::1]:1", kStart));
}

TEST_CASE("an address that is only claimed is sent away only while there is little room") {
  const auto limits = std::make_shared<AddressLimits>(1, Addresses::kClaimed);
  CHECK(let_in(*limits, "192.0.2.1:1", 1000, kStart) == 1000);
  const auto places = crowd(limits);
  CHECK_FALSE(limits->may_come("192.0.2.1:1", kStart));
  CHECK(limits->may_come("192.0.2.2:1", kStart));
}

TEST_CASE("a burst is let in, then so many a second") {
  AddressLimits limits(10);
  CHECK(let_in(limits, "a", 100, kStart) == 10 * AddressLimits::kBurstSeconds);
  CHECK(let_in(limits, "a", 100, kStart + milliseconds(99)) == 0);
  CHECK(let_in(limits, "a", 100, kStart + milliseconds(1150)) == 11);
  CHECK(let_in(limits, "a", 100, kStart + std::chrono::hours(1)) == 10 * AddressLimits::kBurstSeconds);
  // A clock that is read by several threads may seem to go back.
  CHECK(let_in(limits, "a", 1, kStart) == 0);
}

TEST_CASE("one address that comes too often takes nothing from another, and may bring a migration") {
  AddressLimits limits(1);
  CHECK(let_in(limits, "a", 1000, kStart) == AddressLimits::kLeastBurst);
  CHECK(let_in(limits, "b", 1, kStart) == 1);
}

TEST_CASE("without a limit everybody is let in") {
  AddressLimits limits(0);
  CHECK(let_in(limits, "a", 10'000, kStart) == 10'000);
}

TEST_CASE("of addresses without end the quietest is forgotten, not the one that comes often") {
  AddressLimits limits(1);
  CHECK(let_in(limits, "a", 100, kStart) == AddressLimits::kLeastBurst);
  for (size_t i = 0; i < 10 * AddressLimits::kMostAddresses; ++i) {
    CHECK(limits.may_come("other " + std::to_string(i), kStart));
    CHECK_FALSE(limits.may_come("a", kStart));
  }
}

TEST_CASE("unanswered requests are bounded for each address, and counted in all") {
  const auto limits = std::make_shared<AddressLimits>(1);
  std::vector<std::shared_ptr<void>> places;
  for (size_t i = 0; i < AddressLimits::kMostUnanswered; ++i)
    places.push_back(AddressLimits::place(limits, "a"));
  for (const auto& place : places) CHECK(place);
  CHECK_FALSE(AddressLimits::place(limits, "a"));
  const auto other = AddressLimits::place(limits, "b");
  CHECK(other);
  CHECK(limits->unanswered() == AddressLimits::kMostUnanswered + 1);
  places.pop_back();
  places.push_back(AddressLimits::place(limits, "a"));
  CHECK(places.back());
  places.clear();
  CHECK(limits->unanswered() == 1);
}

}  // namespace
}  // namespace rdma_migrate::fabric
