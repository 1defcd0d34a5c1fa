#include "dirty/bitmap_log.h"

#include <algorithm>
#include <bit>
#include <string>
#include <utility>

#include "dirty/log_memory.h"

namespace rdma_migrate::dirty {
namespace {

constexpr uint64_t kWordsBetweenLooks = uint64_t{1} << 16;  // 512 KiB of log

// Sets the block's pages that the log's pages, of another size, touch. Called with ascending words.
class Spread {
 public:
  Spread(uint64_t log_page_size, uint64_t page_size, memory::Bitmap* dirty)
      : log_page_size_(log_page_size), page_size_(page_size), dirty_(dirty) {}

  void add(uint64_t first_log_page, uint64_t bits) {
    while (bits != 0) {
      const auto first = static_cast<uint64_t>(std::countr_zero(bits));
      const auto count = static_cast<uint64_t>(std::countr_one(bits >> first));
      add_run(first_log_page + first, count);
      bits = first + count >= 64 ? 0 : bits >> (first + count) << (first + count);
    }
  }
  uint64_t found() const { return found_; }

 private:
  void add_run(uint64_t log_page, uint64_t count) {
    if (dirty_ == nullptr) return;
    const uint64_t begin = log_page * log_page_size_ / page_size_;
    const uint64_t end =
        std::min(dirty_->pages(), ((log_page + count) * log_page_size_ - 1) / page_size_ + 1);
    if (begin >= end) return;
    // A page that the previous run touched counts once, but its bit may have been taken since.
    dirty_->set_range(begin, end - begin);
    found_ += end - std::max(end_, begin);
    end_ = end;
  }

  const uint64_t log_page_size_;
  const uint64_t page_size_;
  memory::Bitmap* dirty_;
  uint64_t end_ = 0;
  uint64_t found_ = 0;
};

}  // namespace

BitmapTracker::BitmapTracker(Blocks blocks, const std::vector<DirtyLog>& logs) : Tracker(std::move(blocks)) {
  if (logs.size() != this->blocks().size()) {
    throw Error("INVALID_ARGUMENT", "expected " + std::to_string(this->blocks().size()) +
                                        " dirty logs, one per block, but received " +
                                        std::to_string(logs.size()));
  }
  for (size_t i = 0; i < logs.size(); ++i) {
    const memory::Mapping& mapping = *this->blocks()[i];
    logs_.push_back(std::make_unique<LogMemory>(logs[i], mapping.length(), mapping.name()));
  }
}

BitmapTracker::~BitmapTracker() { stop(); }

// What was written before the watch began is of no interest.
void BitmapTracker::begin() {
  for (size_t i = 0; i < logs_.size(); ++i) take(i, nullptr);
}

uint64_t BitmapTracker::gather(Bitmaps bitmaps) {
  uint64_t pages = 0;
  for (size_t i = 0; i < logs_.size(); ++i) pages += take(i, bitmaps[i].get());
  return pages;
}

void BitmapTracker::end() noexcept { logs_.clear(); }

uint64_t BitmapTracker::take(size_t block, memory::Bitmap* dirty) {
  LogMemory& log = *logs_[block];
  const bool same_size = log.page_size() == blocks()[block]->page_size();
  Spread spread(log.page_size(), blocks()[block]->page_size(), dirty);
  uint64_t pages = 0;
  for (uint64_t begin = 0; begin < log.words(); begin += kWordsBetweenLooks) {
    throw_if_stopped();
    log.check();
    const uint64_t end = std::min(log.words(), begin + kWordsBetweenLooks);
    for (uint64_t index = log.next(begin, end); index < end; index = log.next(index + 1, end)) {
      const uint64_t bits = log.take(index);
      if (!same_size) {
        spread.add(index * 64, bits);
        continue;
      }
      if (dirty != nullptr) dirty->merge(index, bits);
      pages += static_cast<uint64_t>(std::popcount(bits));
    }
  }
  return pages + spread.found();
}

}  // namespace rdma_migrate::dirty
