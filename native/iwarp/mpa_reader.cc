#include "iwarp/mpa_reader.h"

#include <sys/socket.h>

#include <cerrno>

namespace rdma_migrate::iwarp {

MpaReader::Went MpaReader::read(int socket) {
  for (;;) {
    size_t size = kMpaHeaderSize;
    if (bytes_.size() >= kMpaHeaderSize) {
      size += mpa_body_size(std::span(bytes_).first<kMpaHeaderSize>(), kind_);
      if (bytes_.size() == size) return Went::kDone;
    }
    uint8_t chunk[kMpaHeaderSize + kMpaMaxPrivateData];
    const ssize_t got = recv(socket, chunk, size - bytes_.size(), MSG_DONTWAIT);
    if (got == 0) return Went::kEnded;
    if (got < 0) return errno == EAGAIN || errno == EINTR ? Went::kDry : Went::kBroken;
    bytes_.insert(bytes_.end(), chunk, chunk + got);
  }
}

}  // namespace rdma_migrate::iwarp
