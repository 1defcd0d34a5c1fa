// The core looks for OpenSSL in its process, where Node has it. A test has to bring it.
#pragma once

#include <dlfcn.h>

namespace rdma_migrate::test {

// False: this machine has none.
inline const bool has_libcrypto = dlopen("libcrypto.so.3", RTLD_NOW | RTLD_GLOBAL) != nullptr;

}  // namespace rdma_migrate::test
