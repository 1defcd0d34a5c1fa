// Numbers that a seed alone decides (SplitMix64), and what damage is made of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "fabric/types.h"

namespace rdma_migrate::fuzz {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  // The numbers of one case: neighbours have nothing in common.
  static Random of_case(uint64_t seed, std::string_view target, uint64_t index) {
    uint64_t state = seed * 0x9e3779b97f4a7c15u + index;
    for (const char letter : target) state = state * 1099511628211u + static_cast<uint8_t>(letter);
    return Random(Random(state).next());
  }

  uint64_t next() {
    state_ += 0x9e3779b97f4a7c15u;
    uint64_t mixed = state_;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
    return mixed ^ (mixed >> 31);
  }
  // From 0 up to, but not including, end; 0 for 0.
  uint64_t below(uint64_t end) { return end == 0 ? 0 : next() % end; }
  bool chance(unsigned percent) { return below(100) < percent; }
  template <typename T>
  const T& pick(const std::vector<T>& items) {
    return items[below(items.size())];
  }
  // Near where length checks go wrong, small, or any.
  uint64_t hostile() {
    static const std::vector<uint64_t> edges = {0,          1,          2,          0x7f,        0xff,
                                                0xffff,     0x7fffffff, 0x80000000, 0xffffffff,  1ull << 32,
                                                ~0ull >> 1, 1ull << 63, ~0ull,      ~0ull - 4095};
    if (chance(50)) return pick(edges) + below(5) - 2;
    return chance(50) ? below(300) : next();
  }
  fabric::Bytes bytes(size_t size) {
    fabric::Bytes made(size);
    for (uint8_t& byte : made) byte = static_cast<uint8_t>(next() >> 32);
    return made;
  }

 private:
  uint64_t state_;
};

// A bit, a byte, a cut, something more or less, most often in one place.
inline void mutate(Random& random, fabric::Bytes& bytes) {
  for (uint64_t times = random.chance(70) ? 1 : 1 + random.below(5); times > 0 && !bytes.empty(); --times) {
    const size_t at = random.below(bytes.size());
    const auto place = bytes.begin() + static_cast<ptrdiff_t>(at);
    switch (random.below(5)) {
      case 0:
        bytes[at] ^= static_cast<uint8_t>(1u << random.below(8));
        break;
      case 1:
        bytes[at] = static_cast<uint8_t>(random.hostile());
        break;
      case 2:
        bytes.resize(at);
        break;
      case 3:
        bytes.erase(place, place + static_cast<ptrdiff_t>(1 + random.below(bytes.size() - at)));
        break;
      default: {
        const fabric::Bytes more = random.bytes(1 + random.below(16));
        bytes.insert(place, more.begin(), more.end());
      }
    }
  }
}

}  // namespace rdma_migrate::fuzz
