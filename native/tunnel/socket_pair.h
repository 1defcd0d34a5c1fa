// The two descriptors that a stream's bytes come from and go to: both of one socket, or a pipe each. They are
// this object's, and do not block.
#pragma once

#include <cstdint>
#include <span>

#include "fd.h"

namespace rdma_migrate::tunnel {

class SocketPair {
 public:
  enum class Outcome { kMoved, kWait, kEnd, kFailed };
  struct Result {
    Outcome outcome;
    size_t bytes = 0;
    int sys_errno = 0;
  };

  // Copies of the descriptors; the caller keeps its own. Throws Error: RESOURCE_LIMIT.
  SocketPair(int in, int out);
  ~SocketPair();

  int in() const { return in_.get(); }
  int out() const { return out_.get(); }
  // As much as is there, up to the length; kMoved also when an end follows.
  Result read(std::span<uint8_t> into);
  Result write(std::span<const uint8_t> from);
  // No more will be written: the reader sees an end.
  void end_output();
  // Closes both. A TCP peer sees a reset.
  void abort();

 private:
  void restore(UniqueFd& fd, int flags);

  UniqueFd in_, out_;
  int in_flags_ = 0, out_flags_ = 0;
};

}  // namespace rdma_migrate::tunnel
