#include "memory/classify.h"

#include <algorithm>
#include <array>
#include <bit>
#include <span>
#include <string>

#include "memory/extents.h"
#include "memory/zero_page.h"

namespace rdma_migrate::memory {
namespace {

constexpr uint64_t kBits = Bitmap::kWordBits;
constexpr uint64_t kMostBatchWords = kStepBytes / kTargetPageSize / kBits;  // no page is smaller
constexpr uint64_t kPagesAhead = 4;

// Bits [first, first + count) of a word; count > 0, first + count <= 64.
uint64_t mask_of(uint64_t first, uint64_t count) { return (~uint64_t{0} >> (kBits - count)) << first; }

void append(std::vector<Range>& runs, const Range& run, uint64_t merge_gap) {
  if (!runs.empty() && (runs.back().end() == run.offset || run.offset - runs.back().end() < merge_gap)) {
    runs.back().length = run.end() - runs.back().offset;
  } else {
    runs.push_back(run);
  }
}

class Classifier {
 public:
  Classifier(const Mapping& mapping, Bitmap& bitmap, const ClassifyWindow& window, Bitmap* zeros)
      : mapping_(mapping),
        bitmap_(bitmap),
        zeros_(zeros),
        page_size_(mapping.page_size()),
        batch_pages_(std::max<uint64_t>(1, kStepBytes / page_size_)),
        reads_holes_(mapping.is_hugetlb() && mapping.kind() != Mapping::Kind::kCaller),
        window_(window) {
    mapping.check(window.offset, window.length, "classify");
    if (window.offset % page_size_ != 0 || window.length % page_size_ != 0) {
      throw Error("INVALID_ARGUMENT", "classify: offset " + std::to_string(window.offset) + " and length " +
                                          std::to_string(window.length) +
                                          " must be multiples of the page size, " +
                                          std::to_string(page_size_));
    }
    if (window.most_read == 0) throw Error("INVALID_ARGUMENT", "classify: most_read must not be 0");
    first_ = window.offset / page_size_;
    end_ = first_ + window.length / page_size_;
    if (end_ > bitmap.pages()) {
      throw Error("INVALID_ARGUMENT", "classify: the window ends at page " + std::to_string(end_) +
                                          ", the bitmap has " + std::to_string(bitmap.pages()) + " pages");
    }
    if (zeros != nullptr && zeros->pages() != bitmap.pages()) {
      throw Error("INVALID_ARGUMENT", "classify: zeros are noted in a bitmap of " +
                                          std::to_string(zeros->pages()) + " pages, and the other has " +
                                          std::to_string(bitmap.pages()));
    }
  }

  Classification run(const CancelFlag* cancel) {
    try {
      uint64_t page = first_;
      while (read_ < window_.most_read && (page = bitmap_.next_set(page, end_)) < end_) {
        throw_if_cancelled(cancel, "classify");
        const uint64_t batch_end = std::min(end_, (page / batch_pages_ + 1) * batch_pages_);
        scan_batch(page, batch_end);
        page = batch_end;
      }
      end_ = page;
      close_zero_run();
    } catch (...) {
      give_back_everything();
      throw;
    }
    collect_data_runs();
    note_zeros();
    result_.end = end_ * page_size_;
    return std::move(result_);
  }

 private:
  // Takes the bits first, then finds holes and reads pages: the header says why in this order.
  void scan_batch(uint64_t first, uint64_t end) {
    base_ = first / kBits;
    taken_.fill(0);
    uint64_t any = 0;
    for (uint64_t page = first; page < end;) {
      const uint64_t next = std::min(end, (page / kBits + 1) * kBits);
      const uint64_t word = page / kBits;
      any |= taken_[word - base_] = bitmap_.take(word, mask_of(page % kBits, next - page));
      page = next;
    }
    if (any == 0) return;
    ExtentCursor cursor(mapping_, first * page_size_, (end - first) * page_size_);
    for (Extent extent; cursor.next(&extent);) scan_extent(extent);
  }

  void scan_extent(const Extent& extent) {
    if (extent.is_hole && reads_holes_) read_ += extent.range.length;
    uint64_t page = extent.range.offset / page_size_;
    const uint64_t end = extent.range.end() / page_size_;
    while (page < end) {
      const uint64_t word = page / kBits;
      const uint64_t next = std::min(end, (word + 1) * kBits);
      const uint64_t candidates = taken_[word - base_] & mask_of(page % kBits, next - page);
      if (candidates != 0) sort_word(word, candidates, extent.is_hole);
      page = next;
    }
  }

  // The bits stay in taken_ until they are sorted, so that an error in between can restore them.
  void sort_word(uint64_t word, uint64_t candidates, bool is_hole) {
    uint64_t zero = candidates;
    if (!is_hole) {
      read_ += static_cast<uint64_t>(std::popcount(candidates)) * page_size_;
      fault_in_word(word, candidates);
      zero = zero_pages_of(word, candidates);
    }
    taken_[word - base_] &= ~candidates;
    if (zero != candidates) bitmap_.merge(word, candidates & ~zero);
    add_zero_pages(word, zero);
  }

  void fault_in_word(uint64_t word, uint64_t candidates) {
    const uint64_t first = word * kBits + std::countr_zero(candidates);
    const uint64_t last = word * kBits + kBits - 1 - std::countl_zero(candidates);
    fault_in(mapping_, {first * page_size_, (last + 1 - first) * page_size_});
  }

  uint64_t zero_pages_of(uint64_t word, uint64_t candidates) const {
    const uint8_t* pages = mapping_.data() + word * kBits * page_size_;
    uint64_t zero = 0;
    for (uint64_t rest = candidates; rest != 0; rest &= rest - 1) {
      const int bit = std::countr_zero(rest);
      // Of a page with data little more than its first line is read: the wait for that is all it costs.
      __builtin_prefetch(pages + (static_cast<uint64_t>(bit) + kPagesAhead) * page_size_);
      zero |= uint64_t{is_zero(pages + bit * page_size_, page_size_)} << bit;
    }
    return zero;
  }

  void add_zero_pages(uint64_t word, uint64_t zero) {
    while (zero != 0) {
      const uint64_t bit = std::countr_zero(zero);
      const uint64_t count = std::countr_one(zero >> bit);
      const uint64_t first = word * kBits + bit;
      if (first != run_first_ + run_count_) {
        close_zero_run();
        run_first_ = first;
      }
      run_count_ += count;
      zero &= ~mask_of(bit, count);
    }
  }

  void close_zero_run() {
    if (run_count_ == 0) return;
    if (run_count_ * page_size_ < window_.min_zero_run) {
      bitmap_.set_range(run_first_, run_count_);
    } else {
      result_.zero_runs.push_back({run_first_ * page_size_, run_count_ * page_size_});
      result_.zero_pages += run_count_;
    }
    run_count_ = 0;
  }

  void give_back_everything() {
    for (uint64_t i = 0; i < kMostBatchWords; ++i) {
      if (taken_[i] != 0) bitmap_.merge(base_ + i, taken_[i]);
    }
    if (run_count_ > 0) bitmap_.set_range(run_first_, run_count_);
    for (const Range& run : result_.zero_runs) {
      bitmap_.set_range(run.offset / page_size_, run.length / page_size_);
    }
  }

  void collect_data_runs() {
    for (uint64_t page = bitmap_.next_set(first_, end_); page < end_;) {
      const uint64_t stop = bitmap_.next_clear(page, end_);
      result_.data_pages += stop - page;
      if (zeros_ != nullptr) zeros_->clear_range(page, stop - page);
      append(result_.data_runs, {page * page_size_, (stop - page) * page_size_}, window_.merge_gap);
      page = bitmap_.next_set(stop, end_);
    }
  }

  void note_zeros() {
    if (zeros_ == nullptr) return;
    for (const Range& run : result_.zero_runs) {
      zeros_->set_range(run.offset / page_size_, run.length / page_size_);
    }
  }

  const Mapping& mapping_;
  Bitmap& bitmap_;
  Bitmap* const zeros_;
  const uint64_t page_size_;
  const uint64_t batch_pages_;  // kStepBytes of them, or one
  const bool reads_holes_;      // hugetlbfs: nothing else tells them
  const ClassifyWindow window_;
  uint64_t first_ = 0, end_ = 0;  // pages

  std::array<uint64_t, kMostBatchWords> taken_{};  // candidates not sorted yet; word base_ + i
  uint64_t base_ = 0;
  uint64_t read_ = 0;                       // bytes
  uint64_t run_first_ = 0, run_count_ = 0;  // the zero run that may continue, in pages
  Classification result_;
};

}  // namespace

Classification classify(const Mapping& mapping, Bitmap& bitmap, const ClassifyWindow& window,
                        const CancelFlag* cancel, Bitmap* zeros) {
  return Classifier(mapping, bitmap, window, zeros).run(cancel);
}

}  // namespace rdma_migrate::memory
