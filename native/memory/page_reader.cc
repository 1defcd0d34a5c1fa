#include "memory/page_reader.h"

#include <algorithm>
#include <cstring>

#include "memory/zero_page.h"

namespace rdma_migrate::memory {
namespace {

uint64_t read_be64(const uint8_t* bytes) {
  uint64_t value = 0;
  for (int i = 0; i < 8; ++i) value = value << 8 | bytes[i];
  return value;
}

bool contains(const Range& range, uint64_t offset) { return offset >= range.offset && offset < range.end(); }

std::vector<uint64_t> lengths_of(const std::vector<PageBlock>& blocks) {
  std::vector<uint64_t> lengths;
  for (const PageBlock& block : blocks) lengths.push_back(block.length);
  return lengths;
}

}  // namespace

PageReader::PageReader(std::vector<PageBlock> blocks)
    : blocks_(std::move(blocks)), told_(lengths_of(blocks_), kTargetPageSize) {}

PageReader::Progress PageReader::push(std::span<const uint8_t> bytes) {
  if (failed_) fail("an earlier error ended it");
  failed_ = true;  // until this call has succeeded
  known_ = {};
  try {
    const Progress progress = read_records(bytes);
    if (target_) target_->store.flush();
    target_.reset();
    failed_ = false;
    return progress;
  } catch (...) {
    target_.reset();  // closing a mapping must not wait for a failed reader
    throw;
  }
}

PageReader::Progress PageReader::read_records(std::span<const uint8_t> bytes) {
  Progress progress;
  while (progress.consumed < bytes.size() && !progress.done) {
    const size_t taken = step(bytes.subspan(progress.consumed), &progress.done);
    progress.consumed += taken;
    position_ += taken;
  }
  return progress;
}

// One part of a record, or as much of it as has come. Returns the bytes consumed, at least one.
size_t PageReader::step(std::span<const uint8_t> bytes, bool* done) {
  switch (state_) {
    case State::kWord:
      return read_word(bytes, done);
    case State::kNameLength:
      name_length_ = bytes[0];
      if (name_length_ == 0) fail("a block name of 0 bytes");
      state_ = State::kName;
      return 1;
    case State::kName:
      return read_name(bytes);
    case State::kPage:
      return read_page(bytes);
    case State::kFill:
      fill_page(bytes[0]);
      return 1;
  }
  return 0;
}

size_t PageReader::collect(std::span<const uint8_t> bytes, size_t wanted) {
  const size_t taken = std::min(bytes.size(), wanted - pending_size_);
  std::memcpy(pending_.data() + pending_size_, bytes.data(), taken);
  pending_size_ += taken;
  return taken;
}

size_t PageReader::read_word(std::span<const uint8_t> bytes, bool* done) {
  const size_t taken = collect(bytes, 8);
  if (pending_size_ == 8) {
    pending_size_ = 0;
    const uint64_t word = read_be64(pending_.data());
    flags_ = word & kFlagMask;
    address_ = word & ~kFlagMask;
    begin_record(done);
  }
  return taken;
}

void PageReader::begin_record(bool* done) {
  switch (flags_ & ~uint64_t{kFlagContinue}) {
    case kFlagEos:
      *done = true;
      return;
    case kFlagZero:
    case kFlagPage:
      break;
    default:
      refuse_flags();
  }
  if ((flags_ & kFlagContinue) == 0) {
    state_ = State::kNameLength;
    return;
  }
  if (!block_) fail("the first page record continues a block, but none has been named");
  begin_page();
}

void PageReader::refuse_flags() const {
  if ((flags_ & kFlagXbzrle) != 0) fail("an XBZRLE page: switch the xbzrle capability off at the source");
  if ((flags_ & kFlagCompressPage) != 0)
    fail("a compressed page: switch the compress capability off at the source");
  if ((flags_ & kFlagHook) != 0) {
    fail(
        "a hook record, whose pages went over RDMA and are not in the stream: save the VM with migrate exec: "
        "or file:");
  }
  if ((flags_ & kFlagMultifdFlush) != 0) {
    fail(
        "a mark of multifd, whose pages travel on other channels and are not in the stream: switch the "
        "multifd "
        "capability off at the source");
  }
  if ((flags_ & kFlagMemSize) != 0) fail("a second block list after the section's start");
  fail("a page record with unknown flags " + std::to_string(flags_) +
       ": the target page is not 4096 bytes, or a capability is on that a plain stream cannot carry");
}

size_t PageReader::read_name(std::span<const uint8_t> bytes) {
  const size_t taken = collect(bytes, name_length_);
  if (pending_size_ < name_length_) return taken;
  pending_size_ = 0;
  const std::string_view name(reinterpret_cast<const char*>(pending_.data()), name_length_);
  const auto found =
      std::find_if(blocks_.begin(), blocks_.end(), [&](const PageBlock& b) { return b.name == name; });
  if (found == blocks_.end())
    fail("a page of RAM block '" + std::string(name) + "', which the VM does not have");
  block_ = static_cast<size_t>(found - blocks_.begin());
  begin_page();
  return taken;
}

void PageReader::begin_page() {
  const PageBlock& block = blocks_[*block_];
  if (address_ >= block.length || block.length - address_ < kTargetPageSize) {
    fail("a page at " + std::to_string(address_) + " of RAM block " + block.name + ", which has " +
         std::to_string(block.length) + " bytes");
  }
  page_filled_ = 0;
  state_ = (flags_ & kFlagPage) != 0 ? State::kPage : State::kFill;
}

size_t PageReader::read_page(std::span<const uint8_t> bytes) {
  const size_t taken = std::min<size_t>(bytes.size(), kTargetPageSize - page_filled_);
  target().store.data(address_ + page_filled_, bytes.first(taken));
  if (known_.is_hole && contains(known_.range, address_)) {  // what follows this page is still a hole
    const uint64_t end = known_.range.end();
    const uint64_t next = std::min(end, address_ + kTargetPageSize);
    known_.range = {next, end - next};
  }
  page_filled_ += taken;
  if (page_filled_ == kTargetPageSize) page_finished();
  return taken;
}

void PageReader::fill_page(uint8_t value) {
  if (value == 0) {
    zero_page();
    zero_pages_.fetch_add(1, std::memory_order_relaxed);
  } else {
    std::array<uint8_t, kTargetPageSize> filled;
    filled.fill(value);
    target().store.data(address_, filled);
    target().store.flush();
    known_ = {};
  }
  page_finished();
}

// A hole stays one.
void PageReader::zero_page() {
  Target& place = target();
  if (is_known_hole()) return;
  place.store.flush();  // an earlier record of this call may concern the same page
  const Mapping& mapping = *place.mapping;
  if (!contains(known_.range, address_)) {
    ExtentCursor(mapping, address_, mapping.length() - address_).next(&known_);
    if (is_known_hole()) return;
  }
  fault_in(mapping, {address_, kTargetPageSize});
  if (!is_zero(mapping.data() + address_, kTargetPageSize)) place.store.zeros({address_, kTargetPageSize});
}

bool PageReader::is_known_hole() { return known_.is_hole && contains(known_.range, address_); }

PageReader::Target& PageReader::target() {
  if (target_ && target_->block == *block_) return *target_;
  if (target_) target_->store.flush();
  known_ = {};
  auto mapping = lock(blocks_[*block_]);
  const Mapping& reference = *mapping;
  target_.emplace(Target{std::move(mapping), Store(reference), *block_});
  return *target_;
}

void PageReader::page_finished() {
  told_.add(*block_, address_, kTargetPageSize);
  pages_.fetch_add(1, std::memory_order_relaxed);
  state_ = State::kWord;
}

void PageReader::fail(const std::string& what) const {
  throw Error("STREAM_ERROR", "the ram section cannot be read further near its byte " +
                                  std::to_string(position_) + ": " + what);
}

}  // namespace rdma_migrate::memory
