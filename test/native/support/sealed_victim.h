// A victim whose connection is protected, and a raw peer that has its keys.
#pragma once

#include "support/protection.h"
#include "support/victim.h"

namespace rdma_migrate::test {

struct SealedVictim : Victim {
  explicit SealedVictim(fabric::QueuePairOptions options = {},
                        uint64_t per_key = fabric::Protection::kRecordsPerKey)
      : Victim({}, options), writer(active_protection(per_key)), reader(active_protection(per_key), name) {
    REQUIRE(has_libcrypto);
    events.wait_established();
    queue_pair->protect(passive_protection(per_key));
  }

  Bytes sealed(const Bytes& bytes, size_t content = iwarp::kMaxRecordContent) {
    return seal_all(writer, bytes, content);
  }
  void send(const Bytes& bytes) { peer.send(sealed(bytes)); }
  // What the victim says, opened, until so much has come or the stream has ended.
  Bytes receive(size_t size) {
    while (opened.size() < size) {
      const Bytes byte = peer.receive(1);
      if (byte.empty()) break;
      *reader.stream().room() = byte[0];
      reader.stream().filled(1);
      Bytes out(iwarp::kMaxRecordInner);
      out.resize(reader.open(out.data()));
      opened = opened + out;
    }
    const auto end = opened.begin() + static_cast<ptrdiff_t>(std::min(size, opened.size()));
    const Bytes bytes(opened.begin(), end);
    opened.erase(opened.begin(), end);
    return bytes;
  }
  // The victim tells, in a record, why it gives up, and ends so.
  void expect_sealed(TerminateCode code, const std::string& error) {
    const Bytes head = receive(2);
    REQUIRE(head.size() == 2);
    const size_t ulpdu = static_cast<size_t>(head[0] << 8 | head[1]);
    const Bytes rest = receive(iwarp::fpdu_size(ulpdu) - 2);
    REQUIRE(rest.size() == iwarp::fpdu_size(ulpdu) - 2);
    const iwarp::DdpHeader header = iwarp::decode_ddp(rest.data());
    CHECK(header.opcode == static_cast<uint8_t>(iwarp::RdmapOpcode::kTerminate));
    const auto payload = std::span(rest).subspan(iwarp::kUntaggedSize, ulpdu - iwarp::kUntaggedSize);
    CHECK(iwarp::decode_terminate(payload) == code);
    CHECK(peer.at_end());
    peer.close();
    events.wait_closed();
    CHECK(events.reason_code() == error);
  }
  void expect_refused() { expect_sealed(TerminateCode::kMpaCrc, "INTEGRITY_ERROR"); }

  const std::string name = "the victim";
  iwarp::RecordWriter writer;
  iwarp::RecordReader reader;
  Bytes opened;
};

}  // namespace rdma_migrate::test
