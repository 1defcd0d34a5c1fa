#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "memory/page_reader.h"
#include "memory/page_writer.h"
#include "memory_support.h"

using namespace memory_test;
using namespace rdma_migrate::memory;

namespace {

using Block = std::pair<std::string, std::shared_ptr<Mapping>>;

// Builds a stream byte by byte, knowing nothing of the reader.
struct Stream {
  std::vector<uint8_t> bytes;

  Stream& word(uint64_t value) {
    for (int shift = 56; shift >= 0; shift -= 8) bytes.push_back(static_cast<uint8_t>(value >> shift));
    return *this;
  }
  Stream& name(const std::string& text) {
    bytes.push_back(static_cast<uint8_t>(text.size()));
    bytes.insert(bytes.end(), text.begin(), text.end());
    return *this;
  }
  Stream& fill(uint8_t value, size_t count = 1) {
    bytes.insert(bytes.end(), count, value);
    return *this;
  }
};

std::string read_code(const std::vector<Block>& blocks, const Stream& stream) {
  PageReader reader(make_page_blocks(blocks, true));
  return code_of([&] { reader.push(stream.bytes); });
}

std::string read_message(const std::vector<Block>& blocks, const Stream& stream) {
  PageReader reader(make_page_blocks(blocks, true));
  return message_of([&] { reader.push(stream.bytes); });
}

std::vector<Block> two_blocks(uint64_t pages = 8) {
  return {{"pc.ram", Mapping::memfd("pc.ram", pages * kPage)},
          {"vga.vram", Mapping::memfd("vga.vram", pages * kPage)}};
}

Stream sample() {
  Stream stream;
  stream.word(0 * kPage | 0x08).name("pc.ram").fill(0x11, kPage);
  stream.word(1 * kPage | 0x28).fill(0x22, kPage);
  stream.word(2 * kPage | 0x22).fill(0);
  stream.word(7 * kPage | 0x08).name("vga.vram").fill(0x33, kPage);
  stream.word(6 * kPage | 0x22).fill(0x44);
  stream.word(5 * kPage | 0x02).name("pc.ram").fill(0);
  stream.word(0x10);
  return stream;
}

bool page_is(const Mapping& mapping, uint64_t page, uint8_t value) {
  return std::all_of(mapping.data() + page * kPage, mapping.data() + (page + 1) * kPage,
                     [value](uint8_t byte) { return byte == value; });
}

void check_sample(const std::vector<Block>& blocks) {
  REQUIRE(page_is(*blocks[0].second, 0, 0x11));
  REQUIRE(page_is(*blocks[0].second, 1, 0x22));
  REQUIRE(page_is(*blocks[0].second, 2, 0));
  REQUIRE(page_is(*blocks[0].second, 5, 0));
  REQUIRE(page_is(*blocks[1].second, 7, 0x33));
  REQUIRE(page_is(*blocks[1].second, 6, 0x44));
  REQUIRE(page_is(*blocks[1].second, 5, 0));
}

}  // namespace

TEST_CASE("reads pages, zero pages, fill bytes and block names, and stops after EOS") {
  const auto blocks = two_blocks();
  std::memset(blocks[0].second->data() + 5 * kPage, 9, kPage);
  Stream stream = sample();
  const size_t length = stream.bytes.size();
  stream.fill(0x7e, 5);  // the section's footer is not ours
  PageReader reader(make_page_blocks(blocks, true));
  const auto progress = reader.push(stream.bytes);
  CHECK(progress.consumed == length);
  CHECK(progress.done);
  CHECK(reader.pages_read() == 6);
  CHECK(reader.zero_pages() == 2);
  check_sample(blocks);
}

TEST_CASE("the stream may be split at any byte") {
  const Stream stream = sample();
  for (size_t split = 0; split <= stream.bytes.size(); ++split) {
    const auto blocks = two_blocks();
    PageReader reader(make_page_blocks(blocks, true));
    const std::span<const uint8_t> all(stream.bytes);
    const auto first = reader.push(all.first(split));
    REQUIRE(first.consumed == split);
    REQUIRE(first.done == (split == stream.bytes.size()));
    if (first.done) continue;
    const auto second = reader.push(all.subspan(split));
    REQUIRE(second.done);
    REQUIRE(second.consumed == stream.bytes.size() - split);
    check_sample(blocks);
  }
  const auto blocks = two_blocks();
  PageReader reader(make_page_blocks(blocks, true));
  for (const uint8_t byte : stream.bytes) reader.push({&byte, 1});
  check_sample(blocks);
  CHECK(reader.pages_read() == 6);
}

TEST_CASE("knows the pages that no record was about") {
  const auto blocks = two_blocks();
  PageReader reader(make_page_blocks(blocks, true));
  reader.push(sample().bytes);
  auto missing = reader.missing();
  REQUIRE(missing.size() == 2);
  CHECK(missing[0].block == 0);
  CHECK(missing[0].pages == 4);
  CHECK(missing[0].first == 3 * kPage);
  CHECK(missing[1].block == 1);
  CHECK(missing[1].pages == 6);
  CHECK(missing[1].first == 0);
  Stream rest;
  for (const uint64_t page : {3, 4, 6, 7}) rest.word(page * kPage | 0x02).name("pc.ram").fill(0);
  reader.push(rest.bytes);
  missing = reader.missing();
  REQUIRE(missing.size() == 1);
  CHECK(missing[0].block == 1);
}

TEST_CASE("refuses a mark of multifd by that name") {
  CHECK(read_code(two_blocks(), Stream().word(0x200)) == "STREAM_ERROR");
  CHECK(read_message(two_blocks(), Stream().word(0x200)).find("multifd") != std::string::npos);
}

TEST_CASE("works on files and on memory of the caller") {
  TemporaryFolder folder;
  Anonymous memory(8 * kPage);
  const std::vector<Block> blocks = {
      {"pc.ram", Mapping::file(folder.file("ram"), 8 * kPage, FileMode::kCreate)},
      {"vga.vram", Mapping::caller(memory.address(), 8 * kPage)}};
  PageReader reader(make_page_blocks(blocks, true));
  reader.push(sample().bytes);
  check_sample(blocks);
}

TEST_CASE("a later section may continue the block of the one before") {
  const auto blocks = two_blocks();
  PageReader reader(make_page_blocks(blocks, true));
  Stream first, second;
  first.word(0x08).name("vga.vram").fill(1, kPage).word(0x10);
  second.word(kPage | 0x28).fill(2, kPage).word(0x10);
  CHECK(reader.push(first.bytes).done);
  CHECK(reader.push(second.bytes).done);
  CHECK(page_is(*blocks[1].second, 1, 2));
}

TEST_CASE("the last record of a page wins, also within one call") {
  const auto blocks = two_blocks();
  PageReader reader(make_page_blocks(blocks, true));
  Stream stream;
  stream.word(0x02).name("pc.ram").fill(0);
  stream.word(0x28).fill(1, kPage).word(0x22).fill(0);
  stream.word(kPage | 0x22).fill(0).word(kPage | 0x28).fill(2, kPage);
  stream.word(2 * kPage | 0x28)
      .fill(3, kPage)
      .word(2 * kPage | 0x22)
      .fill(0)
      .word(2 * kPage | 0x28)
      .fill(4, kPage);
  reader.push(stream.bytes);
  CHECK(page_is(*blocks[0].second, 0, 0));
  CHECK(page_is(*blocks[0].second, 1, 2));
  CHECK(page_is(*blocks[0].second, 2, 4));
}

TEST_CASE("zero pages leave holes alone") {
  const auto blocks = std::vector<Block>{{"ram", Mapping::memfd("ram", 64 * kMiB)}};
  Stream stream;
  stream.word(0x02).name("ram").fill(0);
  for (uint64_t page = 1; page < 64 * kMiB / kPage; ++page) {
    if (page == 5000) {
      stream.word(page * kPage | 0x28).fill(7, kPage);
    } else {
      stream.word(page * kPage | 0x22).fill(0);
    }
  }
  PageReader reader(make_page_blocks(blocks, true));
  reader.push(stream.bytes);
  CHECK(allocated_bytes(*blocks[0].second) == kPage);
  CHECK(reader.zero_pages() == 64 * kMiB / kPage - 1);
}

TEST_CASE("bad records are STREAM_ERROR and place nothing") {
  const auto blocks = two_blocks();
  const uint64_t end = 8 * kPage;
  CHECK(read_code(blocks, Stream().word(end | 0x08).name("pc.ram").fill(1, kPage)) == "STREAM_ERROR");
  CHECK(read_code(blocks, Stream().word(0xfffffffffffff000 | 0x08).name("pc.ram").fill(1, kPage)) ==
        "STREAM_ERROR");
  CHECK(read_code(blocks, Stream().word(end | 0x02).name("pc.ram").fill(0)) == "STREAM_ERROR");
  CHECK(read_code(blocks, Stream().word(0x08).name("pc.rom").fill(1, kPage)) == "STREAM_ERROR");
  CHECK(read_code(blocks, Stream().word(0x08).name("pc.ra").fill(1, kPage)) == "STREAM_ERROR");
  CHECK(read_code(blocks, Stream().word(0x08).name("").fill(1, kPage)) == "STREAM_ERROR");
  CHECK(read_code(blocks, Stream().word(0x28).fill(1, kPage)) == "STREAM_ERROR");
  CHECK(read_code(blocks, Stream().word(0x0a).name("pc.ram").fill(1, kPage)) == "STREAM_ERROR");
  for (const uint64_t flags : {0x00, 0x01, 0x04, 0x09, 0x18, 0x20, 0x40, 0x80, 0x100, 0x208, 0x400, 0x800}) {
    CAPTURE(flags);
    CHECK(read_code(blocks, Stream().word(flags).name("pc.ram").fill(1, kPage)) == "STREAM_ERROR");
  }
  for (const auto& block : blocks) CHECK(allocated_bytes(*block.second) == 0);
}

TEST_CASE("an error names the capability to switch off, the block and the place") {
  const auto blocks = two_blocks();
  CHECK(read_message(blocks, Stream().word(0x40)).find("xbzrle") != std::string::npos);
  CHECK(read_message(blocks, Stream().word(0x100)).find("compress capability") != std::string::npos);
  CHECK(read_message(blocks, Stream().word(0x80)).find("exec:") != std::string::npos);
  CHECK(read_message(blocks, Stream().word(0x04)).find("second block list") != std::string::npos);
  const std::string message = read_message(blocks, Stream().word(9 * kPage | 0x08).name("pc.ram"));
  CHECK(message.find("36864") != std::string::npos);
  CHECK(message.find("pc.ram") != std::string::npos);
  CHECK(message.find("32768") != std::string::npos);
}

TEST_CASE("a reader that failed does not go on") {
  const auto blocks = two_blocks();
  PageReader reader(make_page_blocks(blocks, true));
  CHECK(code_of([&] { reader.push(Stream().word(0x40).bytes); }) == "STREAM_ERROR");
  CHECK(code_of([&] { reader.push(sample().bytes); }) == "STREAM_ERROR");
}

TEST_CASE("random bytes never place outside a block or crash") {
  std::mt19937_64 random(10);
  for (int round = 0; round < 2000; ++round) {
    const auto blocks = two_blocks(2);
    Stream stream = sample();
    for (int i = 0; i < 4; ++i) stream.bytes[random() % 64] = static_cast<uint8_t>(random());
    PageReader reader(make_page_blocks(blocks, true));
    const std::string code = code_of([&] { reader.push(stream.bytes); });
    REQUIRE((code == "none" || code == "STREAM_ERROR"));
  }
}

TEST_CASE("a full disk is DISK_FULL in the middle of a stream") {
  TemporaryFolder folder;
  if (!folder.mount_tmpfs(kMiB)) {
    MESSAGE("skipped: this user may not mount a small tmpfs");
    return;
  }
  const std::vector<Block> blocks = {{"ram", Mapping::file(folder.file("ram"), 8 * kMiB, FileMode::kCreate)}};
  Stream stream;
  stream.word(0x08).name("ram").fill(1, kPage);
  for (uint64_t page = 1; page < 8 * kMiB / kPage; ++page) stream.word(page * kPage | 0x28).fill(1, kPage);
  CHECK(read_code(blocks, stream) == "DISK_FULL");
}

TEST_CASE("a mapping that was closed is CLOSED, and neither reader nor writer holds one") {
  auto blocks = two_blocks();
  PageReader reader(make_page_blocks(blocks, true));
  PageWriter writer(make_page_blocks(blocks, false));
  CHECK(blocks[0].second.use_count() == 1);
  reader.push(std::span<const uint8_t>(sample().bytes).first(100));
  CHECK(blocks[0].second.use_count() == 1);
  blocks.clear();
  std::vector<uint8_t> buffer(kMaxRecordBytes);
  CHECK(code_of([&] { reader.push(buffer); }) == "CLOSED");
  CHECK(code_of([&] { writer.fill(buffer); }) == "CLOSED");
}

TEST_CASE("refuses blocks without a name, with a long name, listed twice or not writable") {
  const auto mapping = Mapping::memfd("ram", kPage);
  CHECK(code_of([&] { make_page_blocks({{"", mapping}}, true); }) == "INVALID_ARGUMENT");
  CHECK(code_of([&] { make_page_blocks({{std::string(256, 'a'), mapping}}, true); }) == "INVALID_ARGUMENT");
  CHECK(code_of([&] { make_page_blocks({{"a", mapping}, {"a", mapping}}, true); }) == "INVALID_ARGUMENT");
  TemporaryFolder folder;
  Mapping::file(folder.file("ram"), kPage, FileMode::kCreate);
  const auto read_only = Mapping::file(folder.file("ram"), kPage, FileMode::kRead);
  CHECK(code_of([&] { make_page_blocks({{"a", read_only}}, true); }) == "INVALID_ARGUMENT");
  CHECK(code_of([&] { make_page_blocks({{"a", read_only}}, false); }) == "none");
}

TEST_CASE("writes the records that QEMU writes") {
  const auto blocks = two_blocks(3);
  std::memset(blocks[0].second->data() + kPage, 5, kPage);
  std::memset(blocks[1].second->data(), 6, kPage);
  PageWriter writer(make_page_blocks(blocks, false));
  std::vector<uint8_t> buffer(64 * 1024);
  const auto filled = writer.fill(buffer);
  CHECK(filled.done);
  buffer.resize(filled.length);
  Stream expected;
  expected.word(0x02).name("pc.ram").fill(0).word(kPage | 0x28).fill(5, kPage).word(2 * kPage | 0x22).fill(0);
  expected.word(0x08)
      .name("vga.vram")
      .fill(6, kPage)
      .word(kPage | 0x22)
      .fill(0)
      .word(2 * kPage | 0x22)
      .fill(0);
  CHECK(buffer == expected.bytes);
  CHECK(writer.pages_written() == 6);
  CHECK(writer.zero_pages() == 4);
  CHECK(allocated_bytes(*blocks[0].second) == kPage);
  CHECK(writer.fill(buffer).length == 0);
}

TEST_CASE("what is written is read back the same, through buffers of any size") {
  std::mt19937_64 random(11);
  for (int round = 0; round < 20; ++round) {
    const std::vector<Block> source = {{"a", Mapping::memfd("a", 300 * kPage)},
                                       {"b", Mapping::memfd("b", 77 * kPage)}};
    const std::vector<Block> target = {{"b", Mapping::memfd("b", 77 * kPage)},
                                       {"a", Mapping::memfd("a", 300 * kPage)}};
    for (const auto& [name, mapping] : source) {
      for (uint64_t page = 0; page < mapping->length() / kPage; ++page) {
        if (random() % 3 == 0) fill_random(mapping->data() + page * kPage, kPage, random);
      }
    }
    std::memset(target[0].second->data(), 0xee, target[0].second->length());
    PageWriter writer(make_page_blocks(source, false));
    PageReader reader(make_page_blocks(target, true));
    std::vector<uint8_t> buffer(kMaxRecordBytes + random() % 100000);
    for (bool done = false; !done;) {
      const auto filled = writer.fill(buffer);
      done = filled.done;
      REQUIRE(reader.push(std::span(buffer).first(filled.length)).consumed == filled.length);
    }
    REQUIRE(std::memcmp(source[0].second->data(), target[1].second->data(), 300 * kPage) == 0);
    REQUIRE(std::memcmp(source[1].second->data(), target[0].second->data(), 77 * kPage) == 0);
    REQUIRE(reader.pages_read() == writer.pages_written());
    REQUIRE(reader.zero_pages() == writer.zero_pages());
  }
}

TEST_CASE("a buffer that may not hold one record is refused") {
  PageWriter writer(make_page_blocks(two_blocks(), false));
  std::vector<uint8_t> buffer(kMaxRecordBytes - 1);
  CHECK(code_of([&] { writer.fill(buffer); }) == "INVALID_ARGUMENT");
}
