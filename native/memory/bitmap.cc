#include "memory/bitmap.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <string>

#include "error.h"

namespace rdma_migrate::memory {
namespace {

std::atomic_ref<uint64_t> atomic_word(uint64_t* words, uint64_t index) {
  return std::atomic_ref<uint64_t>(words[index]);
}

// `count` ones from bit `first` on; first + count <= 64.
uint64_t ones(uint64_t first, uint64_t count) {
  return count == 0 ? 0 : (~uint64_t{0} >> (64 - count)) << first;
}

}  // namespace

Bitmap::Bitmap(uint64_t pages) : pages_(pages) {
  if (pages == 0 || pages > kMaxPages) {
    throw Error("INVALID_ARGUMENT", "a bitmap of " + std::to_string(pages) + " pages: expected 1 to " +
                                        std::to_string(kMaxPages));
  }
  // calloc and not new: the kernel gives zero pages as they are touched.
  words_.reset(static_cast<uint64_t*>(std::calloc(words(), sizeof(uint64_t))));
  if (!words_) {
    throw Error("OUT_OF_MEMORY", "no memory for a bitmap of " + std::to_string(words() * 8) + " bytes");
  }
}

void Bitmap::check(uint64_t first, uint64_t count) const {
  if (first > pages_ || count > pages_ - first) {
    throw Error("INVALID_ARGUMENT", "pages " + std::to_string(first) + " + " + std::to_string(count) +
                                        " leave a bitmap of " + std::to_string(pages_) + " pages");
  }
}

uint64_t Bitmap::valid_bits(uint64_t index) const {
  return ones(0, std::min(pages_ - index * kWordBits, kWordBits));
}

template <typename Visit>
void Bitmap::for_each_word(uint64_t first, uint64_t count, Visit visit) const {
  check(first, count);
  while (count > 0) {
    const uint64_t bit = first % kWordBits;
    const uint64_t taken = std::min(count, kWordBits - bit);
    visit(first / kWordBits, ones(bit, taken));
    first += taken;
    count -= taken;
  }
}

uint64_t Bitmap::word(uint64_t index) const {
  return atomic_word(words_.get(), index).load(std::memory_order_acquire);
}

bool Bitmap::test(uint64_t page) const {
  check(page, 1);
  return (word(page / kWordBits) >> (page % kWordBits) & 1) != 0;
}

void Bitmap::set_range(uint64_t first, uint64_t count) {
  for_each_word(first, count, [this](uint64_t index, uint64_t mask) {
    atomic_word(words_.get(), index).fetch_or(mask, std::memory_order_acq_rel);
  });
}

void Bitmap::clear_range(uint64_t first, uint64_t count) {
  for_each_word(first, count, [this](uint64_t index, uint64_t mask) { take(index, mask); });
}

uint64_t Bitmap::count(uint64_t first, uint64_t count) const {
  uint64_t total = 0;
  for_each_word(first, count,
                [&](uint64_t index, uint64_t mask) { total += std::popcount(word(index) & mask); });
  return total;
}

template <bool kSet>
uint64_t Bitmap::next(uint64_t from, uint64_t end) const {
  end = std::min(end, pages_);
  while (from < end) {
    const uint64_t bits = kSet ? word(from / kWordBits) : ~word(from / kWordBits);
    const uint64_t rest = bits >> (from % kWordBits);
    if (rest != 0) return std::min(end, from + std::countr_zero(rest));
    from = (from / kWordBits + 1) * kWordBits;
  }
  return end;
}

uint64_t Bitmap::next_set(uint64_t from, uint64_t end) const { return next<true>(from, end); }
uint64_t Bitmap::next_clear(uint64_t from, uint64_t end) const { return next<false>(from, end); }

uint64_t Bitmap::take(uint64_t index, uint64_t mask) {
  return atomic_word(words_.get(), index).fetch_and(~mask, std::memory_order_acq_rel) & mask;
}

void Bitmap::merge(uint64_t index, uint64_t bits) {
  atomic_word(words_.get(), index).fetch_or(bits & valid_bits(index), std::memory_order_acq_rel);
}

void Bitmap::exchange(uint64_t first_word, std::span<uint64_t> values) {
  if (first_word > words() || values.size() > words() - first_word) {
    throw Error("INVALID_ARGUMENT", "words " + std::to_string(first_word) + " + " +
                                        std::to_string(values.size()) + " leave a bitmap of " +
                                        std::to_string(words()) + " words");
  }
  for (uint64_t& value : values) {
    value = atomic_word(words_.get(), first_word)
                .exchange(value & valid_bits(first_word), std::memory_order_acq_rel);
    ++first_word;
  }
}

}  // namespace rdma_migrate::memory
