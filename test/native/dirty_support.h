// What the tests of native/dirty share: a guest that writes at full speed, and a mirror of its memory that is
// kept up to date from what a tracker tells.
#pragma once

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "dirty/tracker.h"
#include "memory_support.h"

namespace dirty_test {

using memory_test::code_of;
using memory_test::kMiB;
using memory_test::kPage;
using rdma_migrate::Error;
using rdma_migrate::dirty::Blocks;
using rdma_migrate::dirty::Tracker;
using rdma_migrate::memory::Bitmap;
using rdma_migrate::memory::Mapping;

using BitmapList = std::vector<std::shared_ptr<Bitmap>>;

inline BitmapList bitmaps_for(const Blocks& blocks) {
  BitmapList list;
  for (const auto& block : blocks) {
    list.push_back(std::make_shared<Bitmap>(block->length() / block->page_size()));
  }
  return list;
}

inline std::shared_ptr<Mapping> map_anonymous(const memory_test::Anonymous& memory, uint64_t length) {
  return Mapping::caller(reinterpret_cast<uint64_t>(memory.data()), length);
}

// A guest and a copier work on the same words, as an RDMA NIC and a VM do. Relaxed atomics say so to the
// compiler and to sanitizers.
inline void store(uint8_t* at, uint64_t value) {
  std::atomic_ref<uint64_t>(*reinterpret_cast<uint64_t*>(at)).store(value, std::memory_order_relaxed);
}
inline uint64_t load(const uint8_t* at) {
  return std::atomic_ref<uint64_t>(*reinterpret_cast<uint64_t*>(const_cast<uint8_t*>(at)))
      .load(std::memory_order_relaxed);
}

// Threads that run `step` over and over until they are stopped.
class Guest {
 public:
  using Step = std::function<void(std::mt19937_64& random, uint64_t sequence)>;
  ~Guest() { pause(); }
  void run(Step step) {
    threads_.emplace_back([this, step = std::move(step), seed = threads_.size() + 1] {
      std::mt19937_64 random(seed);
      for (uint64_t sequence = 1; !stop_.load(std::memory_order_relaxed); ++sequence) step(random, sequence);
    });
  }
  void pause() {
    stop_ = true;
    for (auto& thread : threads_) thread.join();
    threads_.clear();
  }

 private:
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

// Writes a sequence number at two places of a random page.
inline Guest::Step page_writer(const std::shared_ptr<Mapping>& mapping) {
  return [mapping](std::mt19937_64& random, uint64_t sequence) {
    const uint64_t pages = mapping->length() / mapping->page_size();
    // Half of the writes hit a few pages, so that pages are written while they are scanned and copied.
    const uint64_t page = random() % 2 == 0 ? random() % pages : random() % std::min<uint64_t>(pages, 8);
    uint8_t* at = mapping->data() + page * mapping->page_size();
    store(at + random() % 256 * 8, sequence);
    store(at + mapping->page_size() - 8, sequence);
  };
}

// The peer: what it has is what was copied when the tracker said so.
class Mirror {
 public:
  Mirror(Tracker& tracker, Blocks blocks)
      : tracker_(tracker), blocks_(std::move(blocks)), dirty_(bitmaps_for(blocks_)) {
    for (const auto& block : blocks_) {
      copies_.emplace_back(block->length(), 0);
    }
  }
  // The first pass, then rounds for `rounds` times.
  void follow(int rounds) {
    for (const auto& bitmap : dirty_) bitmap->set_range(0, bitmap->pages());
    copy();
    for (int i = 0; i < rounds; ++i) {
      found_ += tracker_.collect(dirty_);
      copy();
    }
  }
  // One collect; meanwhile each page is copied as soon as it shows, the last one first, and written after
  // its copy.
  void follow_closely() {
    std::atomic<bool> done{false};
    std::thread copier([&] {
      while (!done.load()) copy_and_write();
    });
    found_ += tracker_.collect(dirty_);
    done.store(true);
    copier.join();
  }
  // With the guest at rest.
  void finish() {
    found_ += tracker_.collect(dirty_);
    copy();
    for (size_t i = 0; i < blocks_.size(); ++i) {
      const uint64_t wrong = first_difference(*blocks_[i], copies_[i]);
      CAPTURE(i);
      CHECK(wrong == blocks_[i]->length() / blocks_[i]->page_size());
    }
  }
  uint64_t found() const { return found_; }

 private:
  static uint64_t first_difference(const Mapping& block, const std::vector<uint8_t>& copy) {
    uint64_t page = 0;
    for (; page < block.length() / block.page_size(); ++page) {
      if (std::memcmp(block.data() + page * block.page_size(), copy.data() + page * block.page_size(),
                      block.page_size()) != 0)
        break;
    }
    return page;
  }
  void copy() {
    for (size_t i = 0; i < blocks_.size(); ++i) {
      const Bitmap& bitmap = *dirty_[i];
      for (uint64_t page = bitmap.next_set(0, bitmap.pages()); page < bitmap.pages();
           page = bitmap.next_set(page + 1, bitmap.pages())) {
        copy_page(i, page);
      }
    }
  }
  void copy_and_write() {
    for (size_t i = 0; i < blocks_.size(); ++i) {
      for (uint64_t page = dirty_[i]->pages(); page-- > 0;) {
        if (!dirty_[i]->test(page)) continue;
        copy_page(i, page);
        uint8_t* at = blocks_[i]->data() + page * blocks_[i]->page_size();
        store(at, load(at) + 1);
      }
    }
  }
  void copy_page(size_t block, uint64_t page) {
    dirty_[block]->clear_range(page, 1);
    const uint64_t page_size = blocks_[block]->page_size();
    for (uint64_t byte = page * page_size; byte < (page + 1) * page_size; byte += 8) {
      const uint64_t word = load(blocks_[block]->data() + byte);
      std::memcpy(copies_[block].data() + byte, &word, 8);
    }
  }

  Tracker& tracker_;
  Blocks blocks_;
  BitmapList dirty_;
  std::vector<std::vector<uint8_t>> copies_;
  uint64_t found_ = 0;
};

inline double milliseconds(const std::function<void()>& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace dirty_test
