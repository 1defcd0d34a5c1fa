// Owners of file descriptors, and the eventfd that wakes an I/O thread out of poll().
#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <utility>

#include "error.h"

namespace rdma_migrate {

class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  // The caller owns it from here on.
  [[nodiscard]] int release() { return std::exchange(fd_, -1); }
  void reset() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

 private:
  int fd_ = -1;
};

// Level-triggered: signal() makes fd() readable until drain().
class WakeEvent {
 public:
  WakeEvent() : fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (!fd_)
      throw Error("RESOURCE_LIMIT", "cannot make an eventfd; raise the limit of open files (ulimit -n)",
                  errno);
  }

  int fd() const { return fd_.get(); }
  void signal() {
    uint64_t one = 1;
    // Fails only when the counter is at its maximum, and then fd() is already readable.
    [[maybe_unused]] ssize_t written = ::write(fd_.get(), &one, sizeof one);
  }
  void drain() {
    uint64_t count;
    [[maybe_unused]] ssize_t got = ::read(fd_.get(), &count, sizeof count);
  }

 private:
  UniqueFd fd_;
};

}  // namespace rdma_migrate
