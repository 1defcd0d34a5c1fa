// Secrets for two ends, and bytes in protected records.
#pragma once

#include <cstring>
#include <span>

#include "iwarp/record.h"
#include "support/libcrypto.h"
#include "support/requests.h"

namespace rdma_migrate::test {

inline crypto::Secret secret_of(uint64_t seed) {
  const fabric::Bytes bytes = pattern(48, seed);
  return crypto::Secret(std::span<const uint8_t, 48>(bytes.data(), 48));
}

inline fabric::Protection protection_of(uint64_t send, uint64_t receive,
                                        uint64_t per_key = fabric::Protection::kRecordsPerKey) {
  return {secret_of(send), secret_of(receive), per_key};
}

// One end's: the other has them the other way round.
inline fabric::Protection active_protection(uint64_t per_key = fabric::Protection::kRecordsPerKey) {
  return protection_of(1, 2, per_key);
}
inline fabric::Protection passive_protection(uint64_t per_key = fabric::Protection::kRecordsPerKey) {
  return protection_of(2, 1, per_key);
}

inline fabric::Bytes seal(iwarp::RecordWriter& writer, std::span<const uint8_t> content) {
  fabric::Bytes record(iwarp::kMaxRecordSize);
  std::copy(content.begin(), content.end(), record.begin() + iwarp::kRecordHeaderSize);
  record.resize(writer.seal(record.data(), content.size()));
  return record;
}

inline fabric::Bytes seal_end(iwarp::RecordWriter& writer) {
  fabric::Bytes record(iwarp::kMaxRecordSize);
  record.resize(writer.seal_end(record.data()));
  return record;
}

// The bytes in as many records as they need.
inline fabric::Bytes seal_all(iwarp::RecordWriter& writer, const fabric::Bytes& bytes,
                              size_t content = iwarp::kMaxRecordContent) {
  fabric::Bytes stream;
  for (size_t at = 0; at < bytes.size(); at += content) {
    const size_t size = std::min(content, bytes.size() - at);
    const fabric::Bytes record = seal(writer, {bytes.data() + at, size});
    stream.insert(stream.end(), record.begin(), record.end());
  }
  return stream;
}

}  // namespace rdma_migrate::test
