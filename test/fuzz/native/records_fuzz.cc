// The reader of protected records, with what somebody in between may make of a stream: nothing is ever given
// that was not sealed, and no end believed that was not said.
#include <algorithm>

#include "driver.h"
#include "iwarp/record.h"
#include "support/protection.h"

namespace rdma_migrate::fuzz {
namespace {

using fabric::Bytes;
using iwarp::RecordReader;
using iwarp::RecordWriter;

// A stream as it was sealed.
struct Sealed {
  Bytes content;
  std::vector<Bytes> records;
  bool has_end = false;
};

Sealed sealed_stream(Random& random, uint64_t per_key) {
  Sealed sealed;
  RecordWriter writer(test::active_protection(per_key));
  for (uint64_t left = random.below(12); left > 0; --left) {
    const uint64_t most = random.chance(15) ? iwarp::kMaxRecordContent : 200;
    const Bytes content = random.bytes(1 + random.below(most));
    sealed.content.insert(sealed.content.end(), content.begin(), content.end());
    sealed.records.push_back(test::seal(writer, content));
  }
  sealed.has_end = random.chance(70);
  if (sealed.has_end) sealed.records.push_back(test::seal_end(writer));
  return sealed;
}

// Order first: records that are left out, repeated, swapped, or come of another connection.
void reorder(Random& random, std::vector<Bytes>& records) {
  const size_t at = random.below(records.size());
  const auto place = records.begin() + static_cast<ptrdiff_t>(at);
  switch (random.below(4)) {
    case 0:
      records.erase(place);
      break;
    case 1:
      records.insert(place, Bytes(*place));
      break;
    case 2:
      std::swap(*place, records[random.below(records.size())]);
      break;
    default: {
      RecordWriter other(test::protection_of(7, 8));
      records.insert(place, test::seal(other, random.bytes(1 + random.below(100))));
    }
  }
}

Bytes noise(Random& random) {
  Bytes bytes = random.bytes(random.below(400));
  static const uint8_t head[] = {23, 3, 3};
  if (bytes.size() >= 5 && random.chance(70)) {
    std::copy(std::begin(head), std::end(head), bytes.begin());
    if (random.chance(50)) bytes[3] = 0;
  }
  return bytes;
}

Bytes joined(const std::vector<Bytes>& records) {
  Bytes stream;
  for (const Bytes& record : records) stream.insert(stream.end(), record.begin(), record.end());
  return stream;
}

class RecordsTarget final : public Target {
 public:
  std::string name() const override { return "records"; }
  std::vector<std::string> reaches() const override {
    return {"undamaged", "INTEGRITY_ERROR", "ended", "cut", "other keys", "noise", "key changed"};
  }
  uint64_t play(Random& random, Hits& hits) override {
    const uint64_t per_key = random.chance(50) ? 1 + random.below(4) : fabric::Protection::kRecordsPerKey;
    const Sealed sealed = sealed_stream(random, per_key);
    std::vector<Bytes> records = sealed.records;
    const bool reordered = random.chance(30) && !records.empty();
    if (reordered) reorder(random, records);
    const Bytes honest = joined(sealed.records);
    Bytes stream = joined(records);
    if (random.chance(50)) mutate(random, stream);
    if (random.chance(10)) {
      stream = noise(random);
      ++hits["noise"];
    }
    const bool own_keys = !random.chance(5);
    if (!own_keys) ++hits["other keys"];
    RecordReader reader(own_keys ? test::passive_protection(per_key) : test::protection_of(9, 10), peer_);
    const std::string code = read(random, reader, stream, sealed.content);
    judge(stream == honest && own_keys, code, reader, sealed, hits);
    if (code.empty() && own_keys && per_key < sealed.records.size()) ++hits["key changed"];
    return records.size();
  }

 private:
  // In pieces of any size. What is given has to be the beginning of what was sealed.
  std::string read(Random& random, RecordReader& reader, const Bytes& stream, const Bytes& content) {
    given_ = 0;
    const size_t most = random.chance(30) ? 1 + random.below(8) : 1 + random.below(30'000);
    try {
      for (size_t at = 0; at < stream.size();) {
        uint8_t* const room = reader.stream().room();
        const size_t size = std::min({1 + random.below(most), stream.size() - at, reader.stream().free()});
        if (size == 0) throw Finding("no room for the rest of a record");
        std::copy_n(stream.begin() + static_cast<ptrdiff_t>(at), size, room);
        reader.stream().filled(size);
        at += size;
        while (const size_t got = reader.open(out_.data())) take(content, got);
        if (reader.waiting() >= iwarp::kMaxRecordSize)
          throw Finding("a record that was not opened when it was whole");
      }
      return "";
    } catch (const iwarp::WireFault& fault) {
      repeats(reader);
      return fault.error().code();
    }
  }
  void take(const Bytes& content, size_t got) {
    if (got > iwarp::kMaxRecordContent) throw Finding("a record of more than a record");
    if (given_ + got > content.size() || !std::equal(out_.begin(), out_.begin() + static_cast<ptrdiff_t>(got),
                                                     content.begin() + static_cast<ptrdiff_t>(given_)))
      throw Finding("bytes were given that nobody has sealed there");
    given_ += got;
  }
  // Nothing is opened after a fault.
  void repeats(RecordReader& reader) {
    try {
      reader.open(out_.data());
    } catch (const iwarp::WireFault&) {
      return;
    }
    throw Finding("a reader goes on after a fault");
  }
  void judge(bool undamaged, const std::string& code, const RecordReader& reader, const Sealed& sealed,
             Hits& hits) {
    if (!code.empty()) ++hits[code];
    if (code != "" && code != "INTEGRITY_ERROR") throw Finding("ended with " + code);
    if (reader.ended()) ++hits["ended"];
    if (reader.ended() && given_ != sealed.content.size())
      throw Finding("an end was believed before everything had come");
    if (code.empty() && !reader.ended() && given_ < sealed.content.size()) ++hits["cut"];
    if (!undamaged) return;
    ++hits["undamaged"];
    if (!code.empty() || given_ != sealed.content.size() || reader.ended() != sealed.has_end)
      throw Finding("an undamaged stream was not given whole");
  }

  const std::string peer_ = "the fuzzer";
  Bytes out_ = Bytes(iwarp::kMaxRecordInner);
  size_t given_ = 0;
};

}  // namespace

std::unique_ptr<Target> records_target() { return std::make_unique<RecordsTarget>(); }

}  // namespace rdma_migrate::fuzz
