// AES-256-GCM of TLS 1.3 records (RFC 8446 sections 5.2 and 5.3), by OpenSSL's EVP.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "crypto/libcrypto.h"
#include "crypto/secret.h"

namespace rdma_migrate::crypto {

constexpr size_t kTagSize = 16;
using AeadKey = WipedBytes<32>;
using AeadIv = WipedBytes<12>;

// One direction under one key. Its context is made once; a record costs no allocation. One thread at a time.
class Aead {
 public:
  enum class Use { kOpen = 0, kSeal = 1 };
  // Throws Error CRYPTO_UNAVAILABLE, OUT_OF_MEMORY.
  Aead(Use use, const AeadKey& key, const AeadIv& iv);

  // Encrypts data where it lies. The nonce is the IV XOR sequence, which no two calls may share. Throws
  // Error INTERNAL.
  void seal(uint64_t sequence, std::span<const uint8_t> additional, std::span<uint8_t> data,
            std::span<uint8_t, kTagSize> tag);
  // False: not what was sealed with this sequence and additional data; out has been wiped. out: as many
  // bytes as ciphertext. Throws Error INTERNAL.
  bool open(uint64_t sequence, std::span<const uint8_t> additional, std::span<const uint8_t> ciphertext,
            std::span<const uint8_t, kTagSize> tag, uint8_t* out);

 private:
  struct Free {
    void operator()(CipherContext* context) const { libcrypto().cipher_context_free(context); }
  };
  void begin(uint64_t sequence, std::span<const uint8_t> additional);
  void run(std::span<const uint8_t> in, uint8_t* out);

  const Libcrypto& library_;
  std::unique_ptr<CipherContext, Free> context_;  // wipes its key when it goes
  AeadIv iv_;
};

}  // namespace rdma_migrate::crypto
