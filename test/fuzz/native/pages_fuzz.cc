// The page records of a plain QEMU stream, in pieces, into mapped blocks: what is placed does not depend on
// the pieces.
#include <cstring>

#include "driver.h"
#include "memory/page_reader.h"

namespace rdma_migrate::fuzz {
namespace {

using fabric::Bytes;
using memory::Mapping;
using memory::PageReader;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kPages = 4;
using Blocks = std::vector<std::pair<std::string, std::shared_ptr<Mapping>>>;

void word(Bytes& bytes, uint64_t value) {
  for (int shift = 56; shift >= 0; shift -= 8) bytes.push_back(static_cast<uint8_t>(value >> shift));
}

Bytes records(Random& random, uint64_t& count) {
  static const char* const names[] = {"pc.ram", "vga.vram", "unknown"};
  Bytes bytes;
  for (count = random.below(12); count > 0; --count) {
    const bool again = !bytes.empty() && random.chance(50);
    const bool zero = random.chance(70);
    const bool odd = random.chance(3);
    const uint64_t page = odd ? random.hostile() << 12 : random.below(kPages) * kPage;
    word(bytes, page | uint64_t{zero ? memory::kFlagZero : memory::kFlagPage} |
                    (again ? uint64_t{memory::kFlagContinue} : 0) |
                    (random.chance(2) ? random.next() & memory::kFlagMask : 0));
    if (!again) {
      const std::string name = names[random.chance(95) ? random.below(2) : 2];
      bytes.push_back(static_cast<uint8_t>(name.size()));
      bytes.insert(bytes.end(), name.begin(), name.end());
    }
    if (zero) {
      bytes.push_back(random.chance(80) ? 0 : 0x44);
    } else {
      bytes.insert(bytes.end(), kPage, static_cast<uint8_t>(random.next() | 1));
    }
  }
  word(bytes, memory::kFlagEos);
  return bytes;
}

struct Read {
  std::string code;  // "": all was taken
  uint64_t consumed = 0;
  uint64_t pages = 0;
  bool done = false;
};

class PagesTarget final : public Target {
 public:
  std::string name() const override { return "pages"; }
  std::vector<std::string> reaches() const override {
    return {"taken", "waits for more", "STREAM_ERROR", "undamaged"};
  }
  uint64_t play(Random& random, Hits& hits) override {
    uint64_t count = 0;
    Bytes bytes = records(random, count);
    const bool damaged = random.chance(80);
    if (damaged) mutate(random, bytes);
    for (Blocks* blocks : {&whole_, &split_})
      for (auto& [name, mapping] : *blocks) std::memset(mapping->data(), 0x77, kPages * kPage);
    const Read once = read(whole_, bytes, bytes.size());
    const Read pieces = read(split_, bytes, 1 + random.below(600));
    if (once.code != pieces.code || once.pages != pieces.pages || once.done != pieces.done)
      throw Finding("records in pieces end otherwise: " + once.code + " and " + pieces.code);
    for (size_t block = 0; block < whole_.size(); ++block) {
      // What a record that is refused half way has placed is no part of the promise.
      if (once.code.empty() &&
          std::memcmp(whole_[block].second->data(), split_[block].second->data(), kPages * kPage) != 0)
        throw Finding("records in pieces place other bytes");
    }
    ++hits[!once.code.empty() ? once.code : once.done ? "taken" : "waits for more"];
    if (!damaged) ++hits["undamaged"];
    return once.pages + 1;
  }

 private:
  static Blocks blocks() {
    return {{"pc.ram", Mapping::memfd("pc.ram", kPages * kPage)},
            {"vga.vram", Mapping::memfd("vga.vram", kPages * kPage)}};
  }
  static Read read(const Blocks& blocks, const Bytes& bytes, size_t piece) {
    PageReader reader(memory::make_page_blocks(blocks, true));
    Read result;
    try {
      for (size_t at = 0; at < bytes.size() && !result.done;) {
        const PageReader::Progress progress =
            reader.push(std::span(bytes).subspan(at, std::min(piece, bytes.size() - at)));
        at += progress.consumed;
        result.consumed = at;
        result.done = progress.done;
        if (progress.consumed == 0) throw Finding("nothing was consumed");
      }
    } catch (const Error& error) {
      if (error.code() != "STREAM_ERROR") throw;
      result.code = error.code();
    }
    result.pages = reader.pages_read();
    return result;
  }

  Blocks whole_ = blocks(), split_ = blocks();
};

}  // namespace

std::unique_ptr<Target> pages_target() { return std::make_unique<PagesTarget>(); }

}  // namespace rdma_migrate::fuzz
