#include "crypto/hmac.h"

#include "crypto/libcrypto.h"
#include "error.h"

namespace rdma_migrate::crypto {

Mac hmac_sha256(std::span<const uint8_t> key, std::span<const uint8_t> data) {
  Mac mac{};
  size_t size = 0;
  const bool done = libcrypto().quick_mac(nullptr, "HMAC", nullptr, "SHA256", nullptr, key.data(), key.size(),
                                          data.data(), data.size(), mac.data(), mac.size(), &size) != nullptr;
  if (!done || size != mac.size()) {
    throw Error("CRYPTO_UNAVAILABLE",
                "this process's OpenSSL gives no HMAC-SHA256; its configuration may leave out the default "
                "provider");
  }
  return mac;
}

bool is_same(const Mac& mac, std::span<const uint8_t, 32> given) {
  return libcrypto().memory_compare(mac.data(), given.data(), mac.size()) == 0;
}

}  // namespace rdma_migrate::crypto
