#include "dirty/hash.h"

#include <algorithm>
#include <exception>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "memory/extents.h"

namespace rdma_migrate::dirty {
namespace {

// One piece of work of a thread: some milliseconds of reading, and few walks over a file's holes.
constexpr uint64_t kPieceBytes = uint64_t{256} << 20;
constexpr unsigned kMaxThreads = 64;

unsigned thread_count(unsigned wanted) {
  if (wanted > kMaxThreads) {
    throw Error("INVALID_ARGUMENT", "threads: expected at most 64 but received " + std::to_string(wanted));
  }
  // The guest needs the CPUs too.
  return wanted != 0 ? wanted : std::clamp(std::thread::hardware_concurrency() / 2, 1u, 4u);
}

}  // namespace

struct HashTracker::Piece {
  size_t block;
  memory::Range range;
};

HashTracker::HashTracker(Blocks blocks, unsigned threads)
    : Tracker(std::move(blocks)), threads_(thread_count(threads)) {
  for (const auto& mapping : this->blocks()) {
    sent_.push_back(std::make_shared<PageDigests>(pages_of(*mapping), mapping->page_size()));
  }
}

uint64_t HashTracker::gather(Bitmaps bitmaps) {
  std::vector<Piece> pieces;
  for (size_t i = 0; i < blocks().size(); ++i) {
    for (uint64_t at = 0; at < blocks()[i]->length(); at += kPieceBytes) {
      pieces.push_back({i, {at, std::min(kPieceBytes, blocks()[i]->length() - at)}});
    }
  }
  std::atomic<size_t> next{0};
  std::atomic<uint64_t> pages{0};
  std::mutex failure_mutex;
  std::exception_ptr failure;
  const auto work = [&] {
    try {
      for (size_t i = next++; i < pieces.size(); i = next++) {
        pages += compare(pieces[i], *bitmaps[pieces[i].block]);
      }
    } catch (...) {
      next = pieces.size();
      std::lock_guard lock(failure_mutex);
      if (!failure) failure = std::current_exception();
    }
  };
  std::vector<std::thread> helpers;
  for (size_t i = 1; i < std::min<size_t>(threads_, pieces.size()); ++i) {
    try {
      helpers.emplace_back(work);
    } catch (const std::system_error&) {
      break;  // fewer threads will do
    }
  }
  work();
  for (auto& helper : helpers) helper.join();
  if (failure) std::rethrow_exception(failure);
  return pages;
}

uint64_t HashTracker::compare(const Piece& piece, memory::Bitmap& dirty) const {
  uint64_t pages = 0;
  memory::ExtentCursor cursor(*blocks()[piece.block], piece.range.offset, piece.range.length);
  for (memory::Extent extent; cursor.next(&extent);) {
    throw_if_stopped();
    pages +=
        extent.is_hole ? compare_hole(piece, extent.range, dirty) : compare_data(piece, extent.range, dirty);
  }
  return pages;
}

uint64_t HashTracker::compare_data(const Piece& piece, const memory::Range& range,
                                   memory::Bitmap& dirty) const {
  const memory::Mapping& mapping = *blocks()[piece.block];
  const PageDigests& sent = *sent_[piece.block];
  const uint64_t step = std::max(memory::kStepBytes, mapping.page_size());
  uint64_t pages = 0;
  for (uint64_t at = range.offset; at < range.end(); at += step) {
    throw_if_stopped();
    const uint64_t end = std::min(at + step, range.end());
    memory::fault_in(mapping, {at, end - at});
    for (uint64_t page = at / mapping.page_size(); page < end / mapping.page_size(); ++page) {
      if (sent.is_current(page, mapping.data() + page * mapping.page_size())) continue;
      dirty.set_range(page, 1);
      ++pages;
    }
  }
  return pages;
}

// Zero now: written if the peer has anything else.
uint64_t HashTracker::compare_hole(const Piece& piece, const memory::Range& range,
                                   memory::Bitmap& dirty) const {
  const uint64_t page_size = blocks()[piece.block]->page_size();
  const uint64_t end = range.end() / page_size;
  const PageDigests& sent = *sent_[piece.block];
  uint64_t pages = 0;
  for (uint64_t page = sent.next_nonzero(range.offset / page_size, end); page < end;
       page = sent.next_nonzero(page + 1, end)) {
    dirty.set_range(page, 1);
    ++pages;
  }
  return pages;
}

}  // namespace rdma_migrate::dirty
