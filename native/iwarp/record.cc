#include "iwarp/record.h"

#include <cstring>

#include "crypto/key_schedule.h"
#include "iwarp/byte_order.h"

namespace rdma_migrate::iwarp {
namespace {

constexpr uint8_t kHead[] = {static_cast<uint8_t>(RecordType::kData), 3, 3};
constexpr uint8_t kCloseNotify[] = {1, 0};  // warning, close_notify (RFC 8446 section 6)
constexpr size_t kOverhead = 1 + crypto::kTagSize;

}  // namespace

RecordKeys::RecordKeys(crypto::Aead::Use use, const crypto::Secret& secret, uint64_t records_per_key)
    : use_(use), records_per_key_(records_per_key), secret_(secret) {
  if (records_per_key == 0 || records_per_key > fabric::Protection::kRecordsPerKey) {
    throw Error("INVALID_ARGUMENT", "records per key: " + std::to_string(records_per_key) +
                                        "; expected 1 to " +
                                        std::to_string(fabric::Protection::kRecordsPerKey));
  }
  renew();
}

void RecordKeys::renew() {
  const crypto::TrafficKeys keys = crypto::traffic_keys(secret_);
  aead_.emplace(use_, keys.key, keys.iv);
  sequence_ = 0;
}

RecordKeys::Next RecordKeys::next() {
  if (sequence_ == records_per_key_) {
    secret_ = crypto::next_secret(secret_);
    renew();
  }
  return {*aead_, sequence_++};
}

size_t RecordWriter::seal(uint8_t* record, size_t content, RecordType type) {
  std::memcpy(record, kHead, sizeof kHead);
  store_be16(record + sizeof kHead, static_cast<uint16_t>(content + kOverhead));
  uint8_t* const data = record + kRecordHeaderSize;
  data[content] = static_cast<uint8_t>(type);
  const RecordKeys::Next key = keys_.next();
  key.aead.seal(key.sequence, {record, kRecordHeaderSize}, {data, content + 1},
                std::span<uint8_t, crypto::kTagSize>(data + content + 1, crypto::kTagSize));
  return kRecordHeaderSize + content + kOverhead;
}

size_t RecordWriter::seal_end(uint8_t* record) {
  std::memcpy(record + kRecordHeaderSize, kCloseNotify, sizeof kCloseNotify);
  return seal(record, sizeof kCloseNotify, RecordType::kAlert);
}

size_t RecordReader::open(uint8_t* out) {
  if (fault_) throw *fault_;
  if (stream_.available() == 0) return 0;
  if (ended_) fault("a record after the last one");
  if (stream_.available() < kRecordHeaderSize) return 0;
  const uint8_t* const record = stream_.data();
  if (std::memcmp(record, kHead, sizeof kHead) != 0) fault("what is no record");
  const size_t length = load_be16(record + sizeof kHead);
  // One byte of content at least, so that every record brings the stream on.
  if (length < kOverhead + 1 || length > kMaxRecordContent + kOverhead)
    fault("a record of " + std::to_string(length) + " bytes");
  if (stream_.available() < kRecordHeaderSize + length) return 0;
  const size_t inner = length - crypto::kTagSize;
  const uint8_t* const sealed = record + kRecordHeaderSize;
  const RecordKeys::Next key = keys_.next();
  if (!key.aead.open(key.sequence, {record, kRecordHeaderSize}, {sealed, inner},
                     std::span<const uint8_t, crypto::kTagSize>(sealed + inner, crypto::kTagSize), out))
    fault("a record that could not be authenticated");
  stream_.consume(kRecordHeaderSize + length);
  const size_t size = inner - 1;
  if (out[size] == static_cast<uint8_t>(RecordType::kData)) return size;
  if (out[size] != static_cast<uint8_t>(RecordType::kAlert) || size != sizeof kCloseNotify ||
      std::memcmp(out, kCloseNotify, size) != 0)
    fault("a record that says what nobody says here");
  ended_ = true;
  return open(out);  // nothing may follow
}

void RecordReader::fault(const std::string& what) {
  fault_.emplace(TerminateCode::kMpaCrc,
                 Error("INTEGRITY_ERROR", what + " came from " + peer_ +
                                              " over a protected connection; something on the way changes "
                                              "the stream, or the peer has other keys"));
  throw *fault_;
}

}  // namespace rdma_migrate::iwarp
