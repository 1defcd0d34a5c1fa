// Bytes that are stored through a mapping's file.
#include <doctest/doctest.h>
#include <sys/resource.h>

#include <algorithm>
#include <vector>

#include "memory/store.h"
#include "memory_support.h"

using namespace rdma_migrate;
using memory::FileMode;
using memory::Mapping;
using memory_test::kPage;

namespace {

std::vector<uint8_t> bytes_of(uint64_t length, uint8_t seed) {
  std::vector<uint8_t> bytes(length);
  for (uint64_t at = 0; at < length; ++at) bytes[at] = static_cast<uint8_t>(seed + at * 7 + at / kPage);
  return bytes;
}

std::vector<iovec> pieces_of(std::vector<uint8_t>& bytes, size_t size) {
  std::vector<iovec> pieces;
  for (size_t at = 0; at < bytes.size(); at += size)
    pieces.push_back({bytes.data() + at, std::min(size, bytes.size() - at)});
  return pieces;
}

bool holds(const Mapping& mapping, uint64_t offset, const std::vector<uint8_t>& bytes, uint64_t length) {
  return std::equal(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(length), mapping.data() + offset);
}

}  // namespace

TEST_CASE("pieces are stored one after the other, whatever their size") {
  for (const size_t size : {size_t{700}, size_t{4096}, size_t{9001}}) {
    CAPTURE(size);
    const auto mapping = Mapping::memfd("ram", 16 * kPage);
    auto bytes = bytes_of(9001, 1);
    CHECK(memory::store_pieces(*mapping, 3 * kPage + 5, pieces_of(bytes, size)) == bytes.size());
    CHECK(holds(*mapping, 3 * kPage + 5, bytes, bytes.size()));
    CHECK(mapping->data()[3 * kPage + 4] == 0);
    CHECK(mapping->data()[3 * kPage + 5 + bytes.size()] == 0);
  }
}

TEST_CASE("of more pieces than one call takes, the first ones are stored, and it says how much that is") {
  const auto mapping = Mapping::memfd("ram", 16 * kPage);
  auto bytes = bytes_of(10'000, 2);
  const uint64_t stored = memory::store_pieces(*mapping, 100, pieces_of(bytes, 100));
  CHECK(stored == 64 * 100);
  CHECK(holds(*mapping, 100, bytes, stored));
  CHECK(mapping->data()[100 + stored] == 0);
}

TEST_CASE("the last page is stored only where nobody can cut the file") {
  memory_test::TemporaryFolder folder("/dev/shm");
  const auto sealed = Mapping::memfd("ram", 4 * kPage);
  const auto file = Mapping::file(folder.file("ram"), 4 * kPage, FileMode::kCreate);
  REQUIRE(sealed->length_is_sealed());
  REQUIRE_FALSE(file->length_is_sealed());
  auto bytes = bytes_of(2 * kPage, 3);
  // Pieces that end there, that the beginning of that page cuts, and that lie in it.
  for (const size_t size : {size_t{kPage}, size_t{5000}, size_t{2 * kPage}}) {
    CAPTURE(size);
    CHECK(memory::store_pieces(*sealed, 2 * kPage, pieces_of(bytes, size)) == 2 * kPage);
    CHECK(memory::store_pieces(*file, 2 * kPage, pieces_of(bytes, size)) == kPage);
  }
  CHECK(memory::store_pieces(*file, 3 * kPage + 9, pieces_of(bytes, 100)) == 0);
  CHECK(holds(*sealed, 2 * kPage, bytes, 2 * kPage));
  CHECK(holds(*file, 2 * kPage, bytes, kPage));
  CHECK(std::all_of(file->data() + 3 * kPage, file->data() + 4 * kPage,
                    [](uint8_t byte) { return byte == 0; }));
}

TEST_CASE("a file that was cut is an error, and is not made longer again") {
  memory_test::TemporaryFolder folder("/dev/shm");
  const auto file = Mapping::file(folder.file("ram"), 8 * kPage, FileMode::kCreate);
  REQUIRE(truncate(folder.file("ram").c_str(), 4 * kPage) == 0);
  auto bytes = bytes_of(kPage, 4);
  for (const uint64_t at : {uint64_t{0}, 5 * kPage}) {
    CHECK(memory_test::code_of([&] { memory::store_pieces(*file, at, pieces_of(bytes, kPage)); }) ==
          "IO_ERROR");
    struct stat status {};
    REQUIRE(stat(folder.file("ram").c_str(), &status) == 0);
    CHECK(static_cast<uint64_t>(status.st_size) < 8 * kPage);
  }
}

TEST_CASE("more files than stay open are opened again; one that cannot be is left to the mapping") {
  constexpr size_t kFiles = memory::SharedFile::kMostIdle + 20;
  memory_test::TemporaryFolder folder("/dev/shm");
  std::vector<std::shared_ptr<Mapping>> files;
  for (size_t at = 0; at < kFiles; ++at)
    files.push_back(Mapping::file(folder.file(std::to_string(at)), 4 * kPage, FileMode::kCreate));
  for (const uint64_t round : {0, 1}) {
    for (size_t at = 0; at < kFiles; ++at) {
      auto bytes = bytes_of(kPage, static_cast<uint8_t>(at));
      CHECK(memory::store_pieces(*files[at], round * kPage, pieces_of(bytes, 1000)) == kPage);
    }
  }
  for (size_t at = 0; at < kFiles; ++at) {
    const auto bytes = bytes_of(kPage, static_cast<uint8_t>(at));
    CHECK(holds(*files[at], 0, bytes, kPage));
    CHECK(holds(*files[at], kPage, bytes, kPage));
  }
  // Those that were used first are closed.
  unlink(folder.file("0").c_str());
  auto bytes = bytes_of(kPage, 9);
  CHECK(memory::store_pieces(*files[0], 0, pieces_of(bytes, kPage)) == 0);
}
