// Reads the page records of a plain QEMU stream into mapped blocks.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "memory/coverage.h"
#include "memory/extents.h"
#include "memory/page_record.h"
#include "memory/store.h"

namespace rdma_migrate::memory {

// The stream is hostile: every address, length and flag is checked before a byte is placed. Memory used does
// not depend on the stream. One call at a time; the counters may be read from any thread.
class PageReader {
 public:
  struct Progress {
    uint64_t consumed = 0;  // bytes of this call
    bool done = false;      // EOS was consumed: this ram section has ended
  };

  explicit PageReader(std::vector<PageBlock> blocks);

  // Consumes bytes up to and including EOS, or all. Records may be split anywhere between calls. After EOS
  // the next call begins the next section, in which CONTINUE still means the last block. Everything consumed
  // has been placed when it returns. Throws Error: STREAM_ERROR (after which the reader cannot go on),
  // CLOSED, DISK_FULL, OUT_OF_MEMORY, IO_ERROR.
  Progress push(std::span<const uint8_t> bytes);

  uint64_t pages_read() const { return pages_.load(std::memory_order_relaxed); }  // data and zero
  uint64_t zero_pages() const { return zero_pages_.load(std::memory_order_relaxed); }
  // The blocks with pages for which no record came. Any thread.
  std::vector<Coverage::Missing> missing() const { return told_.missing(); }

 private:
  enum class State { kWord, kNameLength, kName, kPage, kFill };
  // The block in use during one call.
  struct Target {
    std::shared_ptr<Mapping> mapping;
    Store store;
    size_t block;
  };

  Progress read_records(std::span<const uint8_t> bytes);
  size_t step(std::span<const uint8_t> bytes, bool* done);
  size_t collect(std::span<const uint8_t> bytes, size_t wanted);
  size_t read_word(std::span<const uint8_t> bytes, bool* done);
  size_t read_name(std::span<const uint8_t> bytes);
  size_t read_page(std::span<const uint8_t> bytes);
  void begin_record(bool* done);
  void refuse_flags() const;
  void begin_page();
  void fill_page(uint8_t value);
  void zero_page();
  bool is_known_hole();
  Target& target();
  void page_finished();
  [[noreturn]] void fail(const std::string& what) const;

  const std::vector<PageBlock> blocks_;
  Coverage told_;
  std::atomic<uint64_t> pages_{0};
  std::atomic<uint64_t> zero_pages_{0};

  State state_ = State::kWord;
  std::array<uint8_t, kMaxBlockName> pending_{};  // an incomplete word or name
  size_t pending_size_ = 0;
  size_t name_length_ = 0;
  uint64_t flags_ = 0;
  uint64_t address_ = 0;         // of the page, in its block
  size_t page_filled_ = 0;       // bytes of the page that were placed
  std::optional<size_t> block_;  // of the last record
  uint64_t position_ = 0;        // total bytes consumed, for messages
  bool failed_ = false;

  std::optional<Target> target_;
  Extent known_;  // what is known about target_'s mapping: a hole, or data
};

}  // namespace rdma_migrate::memory
