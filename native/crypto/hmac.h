// HMAC-SHA256 (RFC 2104), by OpenSSL's EVP.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace rdma_migrate::crypto {

using Mac = std::array<uint8_t, 32>;

// Throws Error CRYPTO_UNAVAILABLE.
Mac hmac_sha256(std::span<const uint8_t> key, std::span<const uint8_t> data);
// Takes as long whatever the bytes are.
bool is_same(const Mac& mac, std::span<const uint8_t, 32> given);

}  // namespace rdma_migrate::crypto
