#include "crypto/key_schedule.h"

#include <cstring>
#include <memory>
#include <string>

#include "error.h"

namespace rdma_migrate::crypto {
namespace {

// openssl/core.h
constexpr unsigned kUtf8String = 4;   // OSSL_PARAM_UTF8_STRING
constexpr unsigned kOctetString = 5;  // OSSL_PARAM_OCTET_STRING

Param text(const char* key, const char* value) {
  return {key, kUtf8String, const_cast<char*>(value), std::strlen(value)};
}

Param octets(const char* key, const void* value, size_t size) {
  return {key, kOctetString, const_cast<void*>(value), size};
}

// HKDF-Expand-Label(secret, label, context, out.size()) of RFC 8446 section 7.1.
void expand_label(const Secret& secret, const char* label, std::span<uint8_t> out,
                  std::span<const uint8_t> data = {}) {
  const Libcrypto& library = libcrypto();
  const std::unique_ptr<Kdf, void (*)(Kdf*)> kdf(library.kdf_fetch(nullptr, "TLS13-KDF", nullptr),
                                                 library.kdf_free);
  if (!kdf)
    throw Error("CRYPTO_UNAVAILABLE",
                "this process's OpenSSL has no TLS13-KDF; its configuration may leave "
                "out the default provider");
  const std::unique_ptr<KdfContext, void (*)(KdfContext*)> context(library.kdf_context_new(kdf.get()),
                                                                   library.kdf_context_free);
  if (!context) throw Error("OUT_OF_MEMORY", "no memory for a key derivation");
  constexpr const char* kPrefix = "tls13 ";
  const Param parameters[] = {
      text("mode", "EXPAND_ONLY"),
      text("digest", "SHA384"),
      octets("key", secret.view().data(), secret.view().size()),
      octets("prefix", kPrefix, std::strlen(kPrefix)),
      octets("label", label, std::strlen(label)),
      // The last one, if there is none.
      data.empty() ? Param{} : octets("data", data.data(), data.size()),
      {},
  };
  if (library.kdf_derive(context.get(), out.data(), out.size(), parameters) != 1)
    throw Error("CRYPTO_UNAVAILABLE", std::string("OpenSSL did not derive \"") + label + "\"");
}

}  // namespace

TrafficKeys traffic_keys(const Secret& secret) {
  TrafficKeys keys;
  expand_label(secret, "key", keys.key.view());
  expand_label(secret, "iv", keys.iv.view());
  return keys;
}

Secret resumption_secret(const Secret& secret) {
  Secret resumption;
  expand_label(secret, "rdma resume", resumption.view());
  return resumption;
}

Secret carrier_secret(const Secret& resumption, std::span<const uint8_t> context) {
  Secret secret;
  expand_label(resumption, "rdma carrier", secret.view(), context);
  return secret;
}

Secret next_secret(const Secret& secret) {
  Secret next;
  expand_label(secret, "traffic upd", next.view());
  return next;
}

}  // namespace rdma_migrate::crypto
