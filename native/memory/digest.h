// An integrity check over a block's whole content.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "memory/mapping.h"
#include "memory/range.h"

namespace rdma_migrate::memory {

// 256 bits that depend on every byte and its place. Holes and zero pages count only by their place, and holes
// are not read, so a sparse block is cheap. The same on every CPU and for every page size. It finds accidents
// (a lost, old or misplaced page) and is not a cryptographic hash: whoever chooses the bytes can make two
// blocks agree.
//
// Definition: the length, and for each 4 KiB page that is not zero a 256-bit value of content and page
// number, added up. Two blocks that differ in one page have different digests with a probability of about 1 -
// 2^-64 or better.
//
// `done`: so many bytes from the beginning have been dealt with, holes included, while it runs.
//
// Throws Error: IO_ERROR, CANCELLED.
using Digest = std::array<uint64_t, 4>;
Digest digest(const Mapping& mapping, const CancelFlag* cancel = nullptr,
              std::atomic<uint64_t>* done = nullptr);

// The same of each `chunk` bytes of a range, the last one shorter: chunk and offset are multiples of 4 KiB.
// The length counted is that of the mapping, so that chunks of blocks of different lengths never agree.
std::vector<Digest> digest_chunks(const Mapping& mapping, const Range& range, uint64_t chunk,
                                  const CancelFlag* cancel = nullptr);

// 64 hexadecimal digits.
std::string to_hex(const Digest& digest);

}  // namespace rdma_migrate::memory
