// Reads one MPA frame from a socket as it comes, and not a byte more: FPDUs may follow at once.
#pragma once

#include "iwarp/mpa.h"

namespace rdma_migrate::iwarp {

class MpaReader {
 public:
  explicit MpaReader(MpaKind kind) : kind_(kind) {}

  enum class Went { kDry, kDone, kEnded, kBroken };
  // kBroken: errno says why. Throws Error MPA_ERROR.
  Went read(int socket);
  // After kDone.
  MpaFrame frame() const { return decode_mpa(bytes_, kind_); }
  // What has come so far, for who wants to say what a stranger spoke.
  std::span<const uint8_t> bytes() const { return bytes_; }

 private:
  const MpaKind kind_;
  fabric::Bytes bytes_;
};

}  // namespace rdma_migrate::iwarp
