// Protected records: those of TLS 1.3 (RFC 8446 section 5.2) with AES-256-GCM, without padding. A record is
//   17 03 03 | length of the rest, u16 | content and its type, sealed | tag
// and the stream is nothing else. The only contents are bytes of the protected stream and, as the last one,
// the alert close_notify: a stream that ends without it was cut.
//
// Neither end says when it changes its key: both count (fabric/protection.h). So no number of a record comes
// twice under a key, and none wraps.
#pragma once

#include <optional>
#include <string>

#include "crypto/aead.h"
#include "fabric/protection.h"
#include "iwarp/rx_buffer.h"
#include "iwarp/terminate.h"

namespace rdma_migrate::iwarp {

constexpr size_t kRecordHeaderSize = 5;
constexpr size_t kMaxRecordContent = 16 * 1024;
constexpr size_t kMaxRecordInner = kMaxRecordContent + 1;  // with the type
constexpr size_t kMaxRecordSize = kRecordHeaderSize + kMaxRecordInner + crypto::kTagSize;

enum class RecordType : uint8_t { kAlert = 21, kData = 23 };

// The keys of one direction, one after another.
class RecordKeys {
 public:
  // Throws Error CRYPTO_UNAVAILABLE, INVALID_ARGUMENT (records_per_key).
  RecordKeys(crypto::Aead::Use use, const crypto::Secret& secret, uint64_t records_per_key);

  struct Next {
    crypto::Aead& aead;
    uint64_t sequence;
  };
  // For one record, whatever becomes of it.
  Next next();

 private:
  void renew();

  const crypto::Aead::Use use_;
  const uint64_t records_per_key_;
  crypto::Secret secret_;
  std::optional<crypto::Aead> aead_;
  uint64_t sequence_ = 0;
};

class RecordWriter {
 public:
  explicit RecordWriter(const fabric::Protection& protection)
      : keys_(crypto::Aead::Use::kSeal, protection.send, protection.records_per_key) {}

  // Seals the content that lies at record + kRecordHeaderSize, 1 to kMaxRecordContent bytes, and gives the
  // size of the whole record. The content is what nobody else can change: a copy.
  size_t seal(uint8_t* record, size_t content, RecordType type = RecordType::kData);
  // The last record: close_notify.
  size_t seal_end(uint8_t* record);

 private:
  RecordKeys keys_;
};

// Takes the bytes of a stream in any pieces.
class RecordReader {
 public:
  RecordReader(const fabric::Protection& protection, const std::string& peer)
      : keys_(crypto::Aead::Use::kOpen, protection.receive, protection.records_per_key), peer_(peer) {}

  // Where the stream's bytes go.
  RxBuffer& stream() { return stream_; }
  // Bytes of records that have not been opened.
  size_t waiting() const { return stream_.available(); }
  // Opens the oldest record into out, which has room for kMaxRecordInner bytes: the size of its content, or 0
  // where none is whole yet and after the last one. Throws WireFault INTEGRITY_ERROR, from then on always; a
  // record's head is judged before its rest is waited for.
  size_t open(uint8_t* out);
  // close_notify has come: the stream's end is the peer's own.
  bool ended() const { return ended_; }

 private:
  [[noreturn]] void fault(const std::string& what);

  RecordKeys keys_;
  const std::string& peer_;
  RxBuffer stream_;
  bool ended_ = false;
  std::optional<WireFault> fault_;  // nothing is opened after it
};

}  // namespace rdma_migrate::iwarp
