// What rdma_cm events and failed completions mean, as errors with a code.
#pragma once

#include <infiniband/verbs.h>

#include <string>

#include "verbs/cm_id.h"

namespace rdma_migrate::verbs {

// An event that ends the making of a connection.
Error connect_event_error(const CmEvent& event, const std::string& peer, bool iwarp);
// A call of rdma_cm's that failed with errno while connecting.
Error connect_call_error(const char* call, const std::string& peer, int error_number);
// The same while address and route are being resolved.
Error resolve_call_error(const char* call, const std::string& peer, int error_number);
// No device of this machine leads to the address.
Error no_device_error(const std::string& peer, int error_number);
// A work request failed for a reason of its own (not flushed).
Error completion_error(const ibv_wc& completion, const std::string& peer);

}  // namespace rdma_migrate::verbs
