#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <random>
#include <thread>
#include <vector>

#include "memory/bitmap.h"
#include "memory_support.h"

using memory_test::code_of;
using rdma_migrate::memory::Bitmap;

namespace {

uint64_t naive_next(const std::vector<bool>& model, uint64_t from, uint64_t end, bool value) {
  end = std::min<uint64_t>(end, model.size());
  while (from < end && model[from] != value) ++from;
  return std::max(from, std::min(from, end)) > end ? end : from;
}

}  // namespace

TEST_CASE("ranges of bits agree with a vector of bool") {
  std::mt19937_64 random(1);
  for (const uint64_t pages : {1, 63, 64, 65, 200, 1000}) {
    Bitmap bitmap(pages);
    std::vector<bool> model(pages);
    for (int round = 0; round < 500; ++round) {
      const uint64_t first = random() % pages;
      const uint64_t count = random() % (pages - first + 1);
      const bool set = random() % 2 == 0;
      set ? bitmap.set_range(first, count) : bitmap.clear_range(first, count);
      for (uint64_t i = first; i < first + count; ++i) model[i] = set;

      const uint64_t from = random() % pages;
      const uint64_t end = from + random() % (pages - from + 1);
      REQUIRE(bitmap.next_set(from, end) == naive_next(model, from, end, true));
      REQUIRE(bitmap.next_clear(from, end) == naive_next(model, from, end, false));
      REQUIRE(bitmap.count(from, end - from) ==
              static_cast<uint64_t>(std::count(model.begin() + from, model.begin() + end, true)));
      REQUIRE(bitmap.test(from) == model[from]);
    }
    CHECK(bitmap.count() == static_cast<uint64_t>(std::count(model.begin(), model.end(), true)));
  }
}

TEST_CASE("next_set and next_clear cut their end to the bitmap") {
  Bitmap bitmap(70);
  CHECK(bitmap.next_set(0, 1000) == 70);
  bitmap.set_range(0, 70);
  CHECK(bitmap.next_clear(0, UINT64_MAX) == 70);
  CHECK(bitmap.next_set(70, 70) == 70);
}

TEST_CASE("the shares of cells agree with what is counted, and are 0 and 255 only of none and all") {
  std::mt19937_64 random(3);
  constexpr uint64_t kPages = 3 * Bitmap::kGroupBits + 777;
  Bitmap bitmap(kPages);
  for (int round = 0; round < 40; ++round) {
    const uint64_t first = random() % kPages;
    const uint64_t count = random() % std::min<uint64_t>(kPages - first + 1, round % 2 == 0 ? 9 : 9000);
    round % 3 == 0 ? bitmap.clear_range(first, count) : bitmap.set_range(first, count);
    const uint64_t cell = uint64_t{1} << (random() % 15);
    const std::vector<uint8_t> shares = bitmap.shares(cell);
    REQUIRE(shares.size() == (kPages + cell - 1) / cell);
    for (uint64_t i = 0; i < shares.size(); ++i) {
      const uint64_t pages = std::min(cell, kPages - i * cell);
      const uint64_t set = bitmap.count(i * cell, pages);
      REQUIRE((shares[i] == 0) == (set == 0));
      REQUIRE((shares[i] == 255) == (set == pages));
      if (set != 0 && set != pages) REQUIRE(std::abs(255.0 * set / pages - shares[i]) <= 2.0);
    }
  }
}

TEST_CASE("a tebibyte has its shares, and cells of impossible sizes are refused") {
  constexpr uint64_t kTebibyte = uint64_t{1} << 28;
  Bitmap bitmap(kTebibyte);
  bitmap.set_range(kTebibyte / 2, 1 << 16);
  const std::vector<uint8_t> shares = bitmap.shares(1 << 16);
  REQUIRE(shares.size() == 4096);
  CHECK(shares[2048] == 255);
  CHECK(std::count(shares.begin(), shares.end(), 0) == 4095);
  CHECK(code_of([&] { bitmap.shares(0); }) == "INVALID_ARGUMENT");
  CHECK(code_of([&] { bitmap.shares(3 << 16); }) == "INVALID_ARGUMENT");
  CHECK(code_of([&] { bitmap.shares(1 << 11); }) == "INVALID_ARGUMENT");
  CHECK(bitmap.shares(uint64_t{1} << 63).size() == 1);
}

TEST_CASE("refuses pages past the end and impossible sizes") {
  CHECK(code_of([] { Bitmap bitmap(0); }) == "INVALID_ARGUMENT");
  CHECK(code_of([] { Bitmap bitmap(Bitmap::kMaxPages + 1); }) == "INVALID_ARGUMENT");
  Bitmap bitmap(100);
  CHECK(code_of([&] { bitmap.set_range(99, 2); }) == "INVALID_ARGUMENT");
  CHECK(code_of([&] { bitmap.set_range(101, 0); }) == "INVALID_ARGUMENT");
  CHECK(code_of([&] { bitmap.clear_range(1, UINT64_MAX); }) == "INVALID_ARGUMENT");
  CHECK(code_of([&] { bitmap.test(100); }) == "INVALID_ARGUMENT");
  std::vector<uint64_t> words(3);
  CHECK(code_of([&] { bitmap.exchange(0, words); }) == "INVALID_ARGUMENT");
  CHECK(bitmap.count() == 0);
}

TEST_CASE("bits past the last page never appear") {
  Bitmap bitmap(70);
  bitmap.merge(1, ~uint64_t{0});
  CHECK(bitmap.count() == 6);
  std::vector<uint64_t> ones = {~uint64_t{0}, ~uint64_t{0}};
  bitmap.exchange(0, ones);
  CHECK(ones == std::vector<uint64_t>{0, 0x3f});
  CHECK(bitmap.count() == 70);
  bitmap.exchange(0, ones);
  CHECK(ones == std::vector<uint64_t>{~uint64_t{0}, 0x3f});
}

TEST_CASE("take returns and clears what was set under the mask") {
  Bitmap bitmap(64);
  bitmap.set_range(0, 8);
  CHECK(bitmap.take(0, 0xf0f0) == 0xf0);
  CHECK(bitmap.word(0) == 0x0f);
}

TEST_CASE("no bit is lost or seen twice when many threads set and one takes") {
  constexpr uint64_t kPages = 1 << 14;
  Bitmap bitmap(kPages);
  std::vector<std::thread> setters;
  for (uint64_t t = 0; t < 3; ++t) {
    setters.emplace_back([&bitmap, t] {
      for (uint64_t page = t; page < kPages; page += 3) bitmap.set_range(page, 1);
    });
  }
  std::vector<uint64_t> seen(bitmap.words());
  std::vector<uint64_t> words(bitmap.words());
  const auto take_all = [&] {
    std::fill(words.begin(), words.end(), 0);
    bitmap.exchange(0, words);
    for (size_t i = 0; i < words.size(); ++i) {
      REQUIRE((seen[i] & words[i]) == 0);
      seen[i] |= words[i];
    }
  };
  for (int i = 0; i < 50; ++i) take_all();
  for (auto& thread : setters) thread.join();
  take_all();
  for (const uint64_t word : seen) REQUIRE(word == ~uint64_t{0});
}

TEST_CASE("bits are found in large bitmaps wherever they are, as words alone would tell") {
  std::mt19937_64 random(3);
  constexpr uint64_t kPages = 40 * Bitmap::kGroupBits + 77;
  Bitmap bitmap(kPages);
  std::vector<bool> model(kPages);
  const auto set = [&](uint64_t first, uint64_t count, bool value) {
    value ? bitmap.set_range(first, count) : bitmap.clear_range(first, count);
    std::fill(model.begin() + first, model.begin() + first + count, value);
  };
  for (int round = 0; round < 300; ++round) {
    CAPTURE(round);
    const uint64_t first = random() % kPages;
    const uint64_t longest = random() % 3 == 0 ? 10 * Bitmap::kGroupBits : 100;
    const uint64_t count = std::min(kPages - first, random() % longest);
    switch (random() % 4) {
      case 0:
        set(first, count, true);
        break;
      case 1:
        set(first, count, false);
        break;
      case 2: {
        const uint64_t index = first / 64, mask = random();
        bitmap.take(index, mask);
        for (uint64_t i = 0; i < 64 && index * 64 + i < kPages; ++i)
          if ((mask >> i & 1) != 0) model[index * 64 + i] = false;
        break;
      }
      default: {
        const uint64_t index = first / 64, bits = random() & random();
        bitmap.merge(index, bits);
        for (uint64_t i = 0; i < 64 && index * 64 + i < kPages; ++i)
          if ((bits >> i & 1) != 0) model[index * 64 + i] = true;
      }
    }
    const uint64_t from = random() % kPages;
    const uint64_t end = from + random() % (kPages - from + 1);
    REQUIRE(bitmap.next_set(from, end) == naive_next(model, from, end, true));
    REQUIRE(bitmap.count() == static_cast<uint64_t>(std::count(model.begin(), model.end(), true)));
  }
}

TEST_CASE("a bit that has been set is found, whatever other threads set and take beside it") {
  constexpr uint64_t kPages = 2 * Bitmap::kGroupBits;
  Bitmap bitmap(kPages);
  std::atomic<bool> stop{false};
  std::vector<std::thread> others;
  // Another bit of its group, which is taken as soon as it is set: before the one who sets it has returned.
  others.emplace_back([&] {
    while (!stop) bitmap.set_range(5, 1);
  });
  others.emplace_back([&] {
    while (!stop) bitmap.take(0, uint64_t{1} << 5);
  });
  for (int round = 0; round < 20000; ++round) {
    bitmap.set_range(63, 1);
    for (int look = 0; look < 20; ++look) REQUIRE(bitmap.next_set(63, 64) == 63);
    REQUIRE(bitmap.count(63, 1) == 1);
    REQUIRE(bitmap.take(0, uint64_t{1} << 63) != 0);
  }
  stop = true;
  for (auto& other : others) other.join();
  bitmap.clear_range(0, kPages);
  CHECK(bitmap.count() == 0);
  CHECK(bitmap.next_set(0, kPages) == kPages);
}
