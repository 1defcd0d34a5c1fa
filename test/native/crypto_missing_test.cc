// A process without OpenSSL, which is why this is an executable of its own.
#include <dlfcn.h>
#include <doctest/doctest.h>

#include "crypto/libcrypto.h"
#include "error.h"

using namespace rdma_migrate;

TEST_CASE("without OpenSSL in the process there is an error that says so, and none is loaded") {
  for (int round = 0; round < 2; ++round) {
    try {
      crypto::libcrypto();
      FAIL("found");
    } catch (const Error& error) {
      CHECK(error.code() == "CRYPTO_UNAVAILABLE");
    }
  }
  CHECK(dlopen("libcrypto.so.3", RTLD_NOW | RTLD_NOLOAD) == nullptr);
}
