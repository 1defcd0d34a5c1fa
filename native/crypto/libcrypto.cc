#include "crypto/libcrypto.h"

#include <dlfcn.h>

#include <string>

#include "error.h"

namespace rdma_migrate::crypto {
namespace {

template <typename Function>
void find(Function*& function, const char* name) {
  function = reinterpret_cast<Function*>(dlsym(RTLD_DEFAULT, name));
  if (function != nullptr) return;
  throw Error("CRYPTO_UNAVAILABLE", std::string("this process has no OpenSSL 3 (its function ") + name +
                                        " is missing), which protects a migration; use the executables of "
                                        "nodejs.org or of a distribution, Node 20 or later");
}

Libcrypto load() {
  Libcrypto found{};
  find(found.cipher_context_new, "EVP_CIPHER_CTX_new");
  find(found.cipher_context_free, "EVP_CIPHER_CTX_free");
  find(found.aes_256_gcm, "EVP_aes_256_gcm");
  find(found.cipher_init, "EVP_CipherInit_ex");
  find(found.cipher_update, "EVP_CipherUpdate");
  find(found.cipher_final, "EVP_CipherFinal_ex");
  find(found.cipher_control, "EVP_CIPHER_CTX_ctrl");
  find(found.kdf_fetch, "EVP_KDF_fetch");
  find(found.kdf_free, "EVP_KDF_free");
  find(found.kdf_context_new, "EVP_KDF_CTX_new");
  find(found.kdf_context_free, "EVP_KDF_CTX_free");
  find(found.kdf_derive, "EVP_KDF_derive");
  find(found.quick_mac, "EVP_Q_mac");
  find(found.memory_compare, "CRYPTO_memcmp");
  return found;
}

}  // namespace

const Libcrypto& libcrypto() {
  static const Libcrypto found = load();
  return found;
}

}  // namespace rdma_migrate::crypto
