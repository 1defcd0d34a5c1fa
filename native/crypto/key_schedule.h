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
// Of ours, by the same HKDF-Expand-Label (section 7.1): from a traffic secret what the secrets of other
// streams are made of ("rdma resume"), from which nobody gets back to it; and from that the secret of the
// stream that context, at most 255 bytes, is of ("rdma carrier").
Secret resumption_secret(const Secret& secret);
Secret carrier_secret(const Secret& resumption, std::span<const uint8_t> context);

}  // namespace rdma_migrate::crypto
