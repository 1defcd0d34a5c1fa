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

uint32_t bits_in(uint64_t word) { return static_cast<uint32_t>(std::popcount(word)); }

// calloc and not new: the kernel gives zero pages as they are touched.
template <typename T>
T* zeroed(uint64_t count) {
  if (void* memory = std::calloc(count, sizeof(T))) return static_cast<T*>(memory);
  throw Error("OUT_OF_MEMORY", "no memory for a bitmap of " + std::to_string(count * sizeof(T)) + " bytes");
}

}  // namespace

Bitmap::Bitmap(uint64_t pages) : pages_(pages) {
  if (pages == 0 || pages > kMaxPages) {
    throw Error("INVALID_ARGUMENT", "a bitmap of " + std::to_string(pages) + " pages: expected 1 to " +
                                        std::to_string(kMaxPages));
  }
  words_.reset(zeroed<uint64_t>(words()));
  groups_.reset(zeroed<uint32_t>((words() + kGroupWords - 1) / kGroupWords));
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
void Bitmap::for_each_group(uint64_t first, uint64_t count, Visit visit) const {
  check(first, count);
  for (const uint64_t end = first + count; first < end;) {
    const uint64_t stop = std::min(end, (first / kGroupBits + 1) * kGroupBits);
    visit(first, stop - first);
    first = stop;
  }
}

template <typename Visit>
void Bitmap::for_each_word(uint64_t first, uint64_t count, Visit visit) {
  while (count > 0) {
    const uint64_t bit = first % kWordBits;
    const uint64_t taken = std::min(count, kWordBits - bit);
    visit(first / kWordBits, ones(bit, taken));
    first += taken;
    count -= taken;
  }
}

std::atomic_ref<uint32_t> Bitmap::in_group(uint64_t group) const {
  return std::atomic_ref<uint32_t>(groups_[group]);
}

uint64_t Bitmap::word(uint64_t index) const {
  return atomic_word(words_.get(), index).load(std::memory_order_acquire);
}

bool Bitmap::test(uint64_t page) const {
  check(page, 1);
  return (word(page / kWordBits) >> (page % kWordBits) & 1) != 0;
}

void Bitmap::set_range(uint64_t first, uint64_t count) {
  for_each_group(first, count, [this](uint64_t from, uint64_t pages) { set_in_group(from, pages); });
}

// Added before the bits are set: a group whose count is 0 has none that anybody could have seen.
void Bitmap::set_in_group(uint64_t first, uint64_t count) {
  const auto group = in_group(first / kGroupBits);
  group.fetch_add(static_cast<uint32_t>(count), std::memory_order_acq_rel);
  uint32_t were_set = 0;
  for_each_word(first, count, [&](uint64_t index, uint64_t mask) {
    were_set += bits_in(atomic_word(words_.get(), index).fetch_or(mask, std::memory_order_acq_rel) & mask);
  });
  if (were_set != 0) group.fetch_sub(were_set, std::memory_order_acq_rel);
}

void Bitmap::clear_range(uint64_t first, uint64_t count) {
  for_each_group(first, count, [this](uint64_t from, uint64_t pages) {
    if (in_group(from / kGroupBits).load(std::memory_order_acquire) != 0) clear_in_group(from, pages);
  });
}

void Bitmap::clear_in_group(uint64_t first, uint64_t count) {
  uint32_t cleared = 0;
  for_each_word(first, count, [&](uint64_t index, uint64_t mask) {
    if ((word(index) & mask) == 0) return;
    cleared += bits_in(atomic_word(words_.get(), index).fetch_and(~mask, std::memory_order_acq_rel) & mask);
  });
  if (cleared != 0) in_group(first / kGroupBits).fetch_sub(cleared, std::memory_order_acq_rel);
}

uint64_t Bitmap::words_set(uint64_t first, uint64_t count) const {
  uint64_t total = 0;
  for_each_word(first, count,
                [&](uint64_t index, uint64_t mask) { total += std::popcount(word(index) & mask); });
  return total;
}

uint64_t Bitmap::count(uint64_t first, uint64_t count) const {
  uint64_t total = 0;
  for_each_group(first, count, [&](uint64_t from, uint64_t pages) {
    if (in_group(from / kGroupBits).load(std::memory_order_acquire) != 0) total += words_set(from, pages);
  });
  return total;
}

uint64_t Bitmap::about(uint64_t first, uint64_t count) const {
  uint64_t total = 0;
  for_each_group(first, count, [&](uint64_t from, uint64_t pages) {
    const uint64_t in = in_group(from / kGroupBits).load(std::memory_order_acquire);
    if (in == 0) return;
    total += pages == kGroupBits ? std::min(in, pages) : words_set(from, pages);
  });
  return total;
}

std::vector<uint8_t> Bitmap::shares(uint64_t pages_per_cell) const {
  if (!std::has_single_bit(pages_per_cell) || (pages_ - 1) / pages_per_cell >= kMostCells) {
    throw Error("INVALID_ARGUMENT", "cells of " + std::to_string(pages_per_cell) + " of " +
                                        std::to_string(pages_) + " pages: expected a power of two, and " +
                                        std::to_string(kMostCells) + " cells at most");
  }
  std::vector<uint8_t> shares((pages_ - 1) / pages_per_cell + 1);
  for (uint64_t cell = 0; cell < shares.size(); ++cell) {
    const uint64_t first = cell * pages_per_cell;
    const uint64_t pages = std::min(pages_per_cell, pages_ - first);
    const uint64_t set = about(first, pages);
    if (set == pages) {
      shares[cell] = 255;
    } else if (set != 0) {
      shares[cell] = static_cast<uint8_t>(std::clamp<uint64_t>(255 * set / pages, 1, 254));
    }
  }
  return shares;
}

uint64_t Bitmap::next_set(uint64_t from, uint64_t end) const {
  end = std::min(end, pages_);
  while (from < end) {
    if (in_group(from / kGroupBits).load(std::memory_order_acquire) == 0) {
      from = (from / kGroupBits + 1) * kGroupBits;
      continue;
    }
    const uint64_t stop = std::min(end, (from / kGroupBits + 1) * kGroupBits);
    while (from < stop) {
      const uint64_t rest = word(from / kWordBits) >> (from % kWordBits);
      if (rest != 0) return std::min(end, from + std::countr_zero(rest));
      from = (from / kWordBits + 1) * kWordBits;
    }
  }
  return end;
}

uint64_t Bitmap::next_clear(uint64_t from, uint64_t end) const {
  end = std::min(end, pages_);
  while (from < end) {
    const uint64_t rest = ~word(from / kWordBits) >> (from % kWordBits);
    if (rest != 0) return std::min(end, from + std::countr_zero(rest));
    from = (from / kWordBits + 1) * kWordBits;
  }
  return end;
}

uint64_t Bitmap::take(uint64_t index, uint64_t mask) {
  const uint64_t taken = atomic_word(words_.get(), index).fetch_and(~mask, std::memory_order_acq_rel) & mask;
  if (taken != 0) in_group(index / kGroupWords).fetch_sub(bits_in(taken), std::memory_order_acq_rel);
  return taken;
}

void Bitmap::merge(uint64_t index, uint64_t bits) {
  bits &= valid_bits(index);
  if (bits == 0) return;
  const auto group = in_group(index / kGroupWords);
  group.fetch_add(bits_in(bits), std::memory_order_acq_rel);
  const uint64_t were = atomic_word(words_.get(), index).fetch_or(bits, std::memory_order_acq_rel) & bits;
  if (were != 0) group.fetch_sub(bits_in(were), std::memory_order_acq_rel);
}

void Bitmap::exchange(uint64_t first_word, std::span<uint64_t> values) {
  if (first_word > words() || values.size() > words() - first_word) {
    throw Error("INVALID_ARGUMENT", "words " + std::to_string(first_word) + " + " +
                                        std::to_string(values.size()) + " leave a bitmap of " +
                                        std::to_string(words()) + " words");
  }
  for (uint64_t& value : values) {
    const auto group = in_group(first_word / kGroupWords);
    const uint64_t given = value & valid_bits(first_word);
    if (given != 0) group.fetch_add(bits_in(given), std::memory_order_acq_rel);
    value = atomic_word(words_.get(), first_word).exchange(given, std::memory_order_acq_rel);
    if (value != 0) group.fetch_sub(bits_in(value), std::memory_order_acq_rel);
    ++first_word;
  }
}

}  // namespace rdma_migrate::memory
