// Queue pairs whose handshake was given up. An iWARP driver's destructors wait for the handshake's end, siw's
// up to ten seconds: nobody else does.
#pragma once

#include <memory>

#include "verbs/device_queue_pair.h"

namespace rdma_migrate::verbs {

// Destroys it on a thread that all of the process share, and that ends when nothing is left. Where no thread
// is to be had, it is kept until the next one comes.
void destroy_elsewhere(std::shared_ptr<DeviceQueuePair> queue_pair) noexcept;

}  // namespace rdma_migrate::verbs
