// For code that may run after a Node worker has unloaded the addon: signal handlers, threads that nobody
// waits for.
#pragma once

#include <dlfcn.h>

namespace rdma_migrate {

// The shared object that this is compiled into stays loaded until the process ends.
inline void pin_module() {
  static const bool pinned = [] {
    Dl_info self{};
    if (dladdr(reinterpret_cast<void*>(&pin_module), &self) == 0 || self.dli_fname == nullptr) return false;
    return dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE) != nullptr;
  }();
  (void)pinned;
}

}  // namespace rdma_migrate
