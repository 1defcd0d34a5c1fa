#include "memory/guarded.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/statvfs.h>
#include <ucontext.h>

#include <cerrno>
#include <fstream>
#include <mutex>
#include <sstream>
#include <string>

namespace rdma_migrate::memory {
namespace {

// Where a fault of this thread goes; null outside run_guarded().
thread_local sigjmp_buf* volatile landing = nullptr;
thread_local volatile uint64_t last_fault = 0;

struct sigaction previous {};

void hand_on(int signal, siginfo_t* info, void* context) {
  if ((previous.sa_flags & SA_SIGINFO) != 0) return previous.sa_sigaction(signal, info, context);
  if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) return previous.sa_handler(signal);
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  sigaction(signal, &standard, nullptr);
  raise(signal);
}

void on_fault(int signal, siginfo_t* info, void* context) {
  sigjmp_buf* target = landing;
  // A signal sent by a process is not about our memory.
  if (target == nullptr || info->si_code <= 0) return hand_on(signal, info, context);
  landing = nullptr;
  last_fault = reinterpret_cast<uintptr_t>(info->si_addr);
  // Left by a jump: what the handler (or a sanitizer) blocked must not stay blocked.
  pthread_sigmask(SIG_SETMASK, &static_cast<ucontext_t*>(context)->uc_sigmask, nullptr);
  siglongjmp(*target, 1);
}

void install() {
  // A Node worker that ends may unload the addon: the handler must stay.
  Dl_info self{};
  if (dladdr(reinterpret_cast<void*>(&on_fault), &self) != 0 && self.dli_fname != nullptr)
    dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, &previous);
}

// The file that backs address according to /proc/self/maps, or nothing.
std::string backing_file(uint64_t address) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    std::istringstream fields(line);
    uint64_t begin = 0;
    uint64_t end = 0;
    char dash = 0;
    std::string rights, offset, device, inode, path;
    fields >> std::hex >> begin >> dash >> end >> rights >> offset >> device >> inode;
    if (address < begin || address >= end) continue;
    std::getline(fields >> std::ws, path);
    return path;
  }
  return {};
}

}  // namespace

bool run_guarded(void (*body)(void*), void* argument) {
  static std::once_flag installed;
  std::call_once(installed, install);
  sigjmp_buf here;
  if (sigsetjmp(here, 0) != 0) return false;
  landing = &here;
  body(argument);
  landing = nullptr;
  return true;
}

uint64_t fault_address() { return last_fault; }

Error fault_error(uint64_t address, const char* action) {
  std::string path = backing_file(address);
  std::string where = path.empty() ? "registered memory" : "memory mapped from '" + path + "'";
  struct statvfs stats {};
  if (!path.empty() && statvfs(path.c_str(), &stats) == 0 && stats.f_bavail == 0) {
    return Error("DISK_FULL", std::string("cannot ") + action + " " + where +
                                  ": its file system is full; make room and start again");
  }
  return Error("IO_ERROR",
               std::string("cannot ") + action + " " + where +
                   ": its pages are not there (unmapped, file cut, or I/O error)",
               EFAULT);
}

}  // namespace rdma_migrate::memory
