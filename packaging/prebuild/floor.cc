// What glibc has only since later than the floor of prebuilt addons (targets.ts), in terms of what it had
// before. For this shared object alone: nothing here is visible outside.
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <ctime>

extern "C" {

// 2.33; on 64-bit machines the kernel's struct stat is glibc's.
int floor_fstat64(int fd, void* status) __asm__("fstat64");
int floor_fstat64(int fd, void* status) { return static_cast<int>(syscall(SYS_fstat, fd, status)); }

int floor_fstatat64(int fd, const char* path, void* status, int flags) __asm__("fstatat64");
int floor_fstatat64(int fd, const char* path, void* status, int flags) {
  return static_cast<int>(syscall(SYS_newfstatat, fd, path, status, flags));
}

// 2.36; std::random_device takes it. The kernel's generator gives so few bytes whole, or none before it is
// seeded: then it waits.
uint32_t floor_arc4random() __asm__("arc4random");
uint32_t floor_arc4random() {
  uint32_t number = 0;
  while (getrandom(&number, sizeof number, 0) != static_cast<ssize_t>(sizeof number))
    if (errno != EINTR) abort();
  return number;
}

// 2.32: true allows counters without atomics. A process that has Node in it has threads.
char floor_single_threaded __asm__("__libc_single_threaded") = 0;

// 2.30. Before, a wait until a point of the monotonic clock is one until that point of the wall clock, as it
// is now.
int floor_clockwait(pthread_cond_t* condition, pthread_mutex_t* mutex, clockid_t clock,
                    const timespec* until) __asm__("pthread_cond_clockwait");
int floor_clockwait(pthread_cond_t* condition, pthread_mutex_t* mutex, clockid_t clock,
                    const timespec* until) {
  using Clockwait = int (*)(pthread_cond_t*, pthread_mutex_t*, clockid_t, const timespec*);
  static const auto machines_own = reinterpret_cast<Clockwait>(dlsym(RTLD_DEFAULT, "pthread_cond_clockwait"));
  if (machines_own != nullptr) return machines_own(condition, mutex, clock, until);
  constexpr long kSecond = 1'000'000'000;
  timespec now{};
  timespec wall{};
  if (clock_gettime(clock, &now) != 0 || clock_gettime(CLOCK_REALTIME, &wall) != 0) return EINVAL;
  wall.tv_sec += until->tv_sec - now.tv_sec;
  wall.tv_nsec += until->tv_nsec - now.tv_nsec;
  if (wall.tv_nsec < 0) {
    wall.tv_nsec += kSecond;
    wall.tv_sec -= 1;
  } else if (wall.tv_nsec >= kSecond) {
    wall.tv_nsec -= kSecond;
    wall.tv_sec += 1;
  }
  return pthread_cond_timedwait(condition, mutex, &wall);
}
}
