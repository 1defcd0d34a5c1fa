// What follows of a traffic secret (RFC 8446 sections 7.2 and 7.3), with SHA-384 as TLS_AES_256_GCM_SHA384
// has it, by OpenSSL's TLS13-KDF.
#pragma once

#include "crypto/aead.h"
#include "crypto/secret.h"

namespace rdma_migrate::crypto {

struct TrafficKeys {
  AeadKey key;
  AeadIv iv;
};

// Both throw Error CRYPTO_UNAVAILABLE, OUT_OF_MEMORY.
TrafficKeys traffic_keys(const Secret& secret);
// "traffic upd": nobody gets from it to the one before.
Secret next_secret(const Secret& secret);

}  // namespace rdma_migrate::crypto
