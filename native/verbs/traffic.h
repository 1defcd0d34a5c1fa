// What a device's port has received. A device places WRITEs without telling: this is how a waiting side sees
// that data flows.
#pragma once

#include <cstdint>
#include <string>

namespace rdma_migrate::verbs {

class PortTraffic {
 public:
  PortTraffic(const std::string& device, uint32_t port);
  // Bytes since this object was made, of every connection of the port. 0 where neither the device nor its
  // network interface counts.
  uint64_t received() const;

 private:
  uint64_t now() const;

  std::string path_;
  uint64_t unit_ = 1;
  uint64_t start_ = 0;
};

}  // namespace rdma_migrate::verbs
