// Memory of which a part may be changed by a peer, and a guard copy that proves that nothing else was.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "driver.h"

namespace rdma_migrate::fuzz {

class GuardedArena {
 public:
  static constexpr size_t kGap = 1024;
  static constexpr uint8_t kGuard = 0xee;

  explicit GuardedArena(const std::vector<size_t>& sizes) {
    size_t size = kGap;
    for (const size_t each : sizes) {
      places_.push_back({size, each, false});
      size += each + kGap;
    }
    bytes_.assign(size, kGuard);
    guard_ = bytes_;
  }

  uint8_t* data(size_t place) { return bytes_.data() + places_[place].at; }
  uint64_t address(size_t place) { return reinterpret_cast<uintptr_t>(data(place)); }
  size_t size(size_t place) const { return places_[place].size; }

  void grant(size_t place) { places_[place].granted = true; }
  // What is there stays: nothing of it may change any more.
  void revoke(size_t place) {
    places_[place].granted = false;
    std::memcpy(guard_.data() + places_[place].at, data(place), size(place));
  }

  // Throws Finding.
  void check() const {
    size_t from = 0;
    for (const Place& place : places_) {
      if (!place.granted) continue;
      compare(from, place.at);
      from = place.at + place.size;
    }
    compare(from, bytes_.size());
  }
  void restore() {
    for (Place& place : places_) place.granted = false;
    std::fill(bytes_.begin(), bytes_.end(), kGuard);
    std::fill(guard_.begin(), guard_.end(), kGuard);
  }

 private:
  struct Place {
    size_t at;
    size_t size;
    bool granted;
  };
  void compare(size_t from, size_t to) const {
    if (std::memcmp(bytes_.data() + from, guard_.data() + from, to - from) == 0) return;
    const auto [changed, was] = std::mismatch(bytes_.begin() + static_cast<ptrdiff_t>(from),
                                              bytes_.begin() + static_cast<ptrdiff_t>(to),
                                              guard_.begin() + static_cast<ptrdiff_t>(from));
    (void)was;
    throw Finding("the byte at " + std::to_string(changed - bytes_.begin()) +
                  " of the arena has changed, which no peer has a right to");
  }

  std::vector<uint8_t> bytes_, guard_;
  std::vector<Place> places_;
};

}  // namespace rdma_migrate::fuzz
