// One bit per page, set = to be sent. Every access is atomic word by word, so a dirty tracker may set bits
// while a writer takes them.
//
// Above the words stand counts, one for each group of 4096 pages: whoever looks for bits, or counts them,
// passes over what is empty. A bitmap of 1 TiB with few bits is gone over in microseconds instead of reading
// 32 MiB.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

namespace rdma_migrate::memory {

class Bitmap {
 public:
  static constexpr uint64_t kWordBits = 64;
  static constexpr uint64_t kGroupWords = 64;
  static constexpr uint64_t kGroupBits = kGroupWords * kWordBits;
  // 2^36 pages of 4 KiB are 256 TiB, above what x86-64 and arm64 guests can have.
  static constexpr uint64_t kMaxPages = uint64_t{1} << 36;

  // All bits clear. Untouched words take no memory. Throws Error: INVALID_ARGUMENT (0 or more than
  // kMaxPages pages), OUT_OF_MEMORY.
  explicit Bitmap(uint64_t pages);

  uint64_t pages() const { return pages_; }
  uint64_t words() const { return (pages_ + kWordBits - 1) / kWordBits; }

  // These throw Error("INVALID_ARGUMENT") for pages past the end.
  bool test(uint64_t page) const;
  void set_range(uint64_t first, uint64_t count);
  void clear_range(uint64_t first, uint64_t count);
  uint64_t count(uint64_t first, uint64_t count) const;
  uint64_t count() const { return count(0, pages_); }

  // The first set (clear) page of [from, end), or end if there is none. end is cut to pages().
  uint64_t next_set(uint64_t from, uint64_t end) const;
  uint64_t next_clear(uint64_t from, uint64_t end) const;

  // What is set of each `pages_per_cell` pages in a row, the last cell perhaps of fewer: 0 is none of them,
  // 255 all, and anything between is in proportion. For a picture: cells of whole groups are told by their
  // counts alone, so that 1 TiB costs 65,536 of these, and smaller cells no more than the words of kMostCells
  // groups. Throws Error("INVALID_ARGUMENT"): no power of two, or more than kMostCells of them.
  static constexpr uint64_t kMostCells = 1 << 16;
  std::vector<uint8_t> shares(uint64_t pages_per_cell) const;

  // Bits are ordered as in one 64-bit word: bit i of word w is page 64 w + i. w < words().
  uint64_t word(uint64_t index) const;
  // Clears the bits of `mask` and returns those that were set.
  uint64_t take(uint64_t index, uint64_t mask);
  // Sets bits; those past the last page are ignored.
  void merge(uint64_t index, uint64_t bits);
  // Swaps words from `first_word` on with `values`, each word atomically (but not the range as a whole): with
  // zeros it takes a dirty log without losing a bit that is set meanwhile. Bits past the last page are
  // ignored.
  void exchange(uint64_t first_word, std::span<uint64_t> values);

 private:
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };

  void check(uint64_t first, uint64_t count) const;
  uint64_t valid_bits(uint64_t index) const;
  // Parts of [first, first + count) that lie in one group each.
  template <typename Visit>
  void for_each_group(uint64_t first, uint64_t count, Visit visit) const;
  // Words of a part of one group, with the bits that are meant.
  template <typename Visit>
  static void for_each_word(uint64_t first, uint64_t count, Visit visit);
  // At least the number of bits that are set in the group. More while a call that sets or takes bits is under
  // way: it adds before it sets, and subtracts after it has taken.
  std::atomic_ref<uint32_t> in_group(uint64_t group) const;
  void set_in_group(uint64_t first, uint64_t count);
  void clear_in_group(uint64_t first, uint64_t count);
  uint64_t words_set(uint64_t first, uint64_t count) const;
  // As count(), but of whole groups what is counted of them, which may be more for a moment.
  uint64_t about(uint64_t first, uint64_t count) const;

  uint64_t pages_;
  std::unique_ptr<uint64_t[], Free> words_;
  std::unique_ptr<uint32_t[], Free> groups_;
};

}  // namespace rdma_migrate::memory
