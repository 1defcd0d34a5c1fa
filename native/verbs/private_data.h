// How much private data each message of a connection's making carries.
#pragma once

#include <cstddef>

namespace rdma_migrate::verbs {

// rdma_conn_param counts private data in a byte. iWARP carries all of it, InfiniBand and RoCE what the CM's
// messages leave (InfiniBand specification volume 1, section 12.7; a request's 92 less the 36 of annex A11).
inline constexpr size_t kMaxData = 255;
inline constexpr size_t kMaxRequestData = 56;
inline constexpr size_t kMaxReplyData = 196;
inline constexpr size_t kMaxRejectData = 148;

// Throws Error INVALID_ARGUMENT.
void check_private_data(size_t size, size_t most);

}  // namespace rdma_migrate::verbs
