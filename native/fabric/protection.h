// What the protected records of a queue pair are sealed with.
#pragma once

#include <cstdint>

#include "crypto/secret.h"

namespace rdma_migrate::fabric {

struct Protection {
  // RFC 8446 section 5.5 lets AES-GCM have 2^24.5 records of full size under one key, 2^22 stay well below.
  static constexpr uint64_t kRecordsPerKey = uint64_t{1} << 22;

  // Traffic secrets that only the two ends have; one end's send is the other's receive. Neither may be used
  // for anything else, nor for a second queue pair: numbers of records begin at 0.
  crypto::Secret send;
  crypto::Secret receive;
  // After so many records each direction goes on with the next key ("traffic upd", RFC 8446 section 7.2).
  // Both ends count, and have the same number here: 1 to kRecordsPerKey.
  uint64_t records_per_key = kRecordsPerKey;
};

}  // namespace rdma_migrate::fabric
