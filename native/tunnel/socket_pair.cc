#include "tunnel/socket_pair.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <cerrno>

namespace rdma_migrate::tunnel {
namespace {

using Outcome = SocketPair::Outcome;

UniqueFd copy_of(int fd) {
  UniqueFd copy(fcntl(fd, F_DUPFD_CLOEXEC, 3));
  if (!copy)
    throw Error(errno == EBADF ? "INVALID_ARGUMENT" : "RESOURCE_LIMIT",
                "cannot copy a descriptor; raise the limit of open files (ulimit -n)", errno);
  return copy;
}

// The flags are those of the open file, which others may share: what they were.
int unblock(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  if ((flags & O_NONBLOCK) == 0) fcntl(fd, F_SETFL, flags | O_NONBLOCK);
  return flags;
}

SocketPair::Result failed() {
  const bool again = errno == EAGAIN || errno == EWOULDBLOCK;
  return {again ? Outcome::kWait : Outcome::kFailed, 0, errno};
}

}  // namespace

SocketPair::SocketPair(int in, int out)
    : in_(copy_of(in)), out_(copy_of(out)), in_flags_(unblock(in_.get())), out_flags_(unblock(out_.get())) {}

SocketPair::~SocketPair() {
  restore(in_, in_flags_);
  restore(out_, out_flags_);
}

void SocketPair::restore(UniqueFd& fd, int flags) {
  if (fd && (flags & O_NONBLOCK) == 0) fcntl(fd.get(), F_SETFL, flags);
  fd.reset();
}

SocketPair::Result SocketPair::read(std::span<uint8_t> into) {
  size_t got = 0;
  while (got < into.size()) {
    const ssize_t bytes = ::read(in_.get(), into.data() + got, into.size() - got);
    if (bytes > 0) {
      got += static_cast<size_t>(bytes);
    } else if (bytes < 0 && errno == EINTR) {
      continue;
    } else if (got > 0) {
      break;  // what follows is seen at the next call
    } else {
      return bytes == 0 ? Result{Outcome::kEnd} : failed();
    }
  }
  return {Outcome::kMoved, got};
}

SocketPair::Result SocketPair::write(std::span<const uint8_t> from) {
  for (;;) {
    const ssize_t bytes = ::write(out_.get(), from.data(), from.size());
    if (bytes >= 0) return {bytes > 0 ? Outcome::kMoved : Outcome::kWait, static_cast<size_t>(bytes)};
    if (errno != EINTR) return failed();
  }
}

void SocketPair::end_output() {
  if (shutdown(out_.get(), SHUT_WR) != 0) restore(out_, out_flags_);
}

void SocketPair::abort() {
  const linger now{1, 0};
  setsockopt(out_.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  restore(in_, in_flags_);
  restore(out_, out_flags_);
}

}  // namespace rdma_migrate::tunnel
