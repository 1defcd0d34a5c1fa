// The OpenSSL of this process: the one that Node speaks TLS with, found by name. No other is ever loaded, so
// that whoever updates or configures Node's has done so for this too. Nothing here is cryptography of ours.
//
// The few functions are declared here, as OpenSSL 3 has them: the core is built without Node's headers.
#pragma once

#include <cstddef>

namespace rdma_migrate::crypto {

struct CipherContext;  // EVP_CIPHER_CTX
struct Cipher;         // EVP_CIPHER
struct Kdf;            // EVP_KDF
struct KdfContext;     // EVP_KDF_CTX

// OSSL_PARAM (openssl/core.h), a part of OpenSSL's binary interface.
struct Param {
  const char* key = nullptr;  // the last one has none
  unsigned type = 0;
  void* data = nullptr;
  size_t size = 0;
  size_t returned = static_cast<size_t>(-1);
};

struct Libcrypto {
  CipherContext* (*cipher_context_new)();
  void (*cipher_context_free)(CipherContext*);
  const Cipher* (*aes_256_gcm)();
  int (*cipher_init)(CipherContext*, const Cipher*, void* engine, const unsigned char* key,
                     const unsigned char* iv, int encrypt);
  int (*cipher_update)(CipherContext*, unsigned char* out, int* out_size, const unsigned char* in,
                       int in_size);
  int (*cipher_final)(CipherContext*, unsigned char* out, int* out_size);
  int (*cipher_control)(CipherContext*, int type, int size, void* pointer);
  Kdf* (*kdf_fetch)(void* library, const char* name, const char* properties);
  void (*kdf_free)(Kdf*);
  KdfContext* (*kdf_context_new)(Kdf*);
  void (*kdf_context_free)(KdfContext*);
  int (*kdf_derive)(KdfContext*, unsigned char* key, size_t size, const Param* parameters);
  unsigned char* (*quick_mac)(void* library, const char* name, const char* properties, const char* algorithm,
                              const Param* parameters, const void* key, size_t key_size,
                              const unsigned char* data, size_t size, unsigned char* out, size_t out_size,
                              size_t* written);
  int (*memory_compare)(const void* left, const void* right, size_t size);
};

// Throws Error CRYPTO_UNAVAILABLE: this process has no OpenSSL 3.
const Libcrypto& libcrypto();

}  // namespace rdma_migrate::crypto
