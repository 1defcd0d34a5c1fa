#include "verbs/traffic.h"

#include <fstream>

namespace rdma_migrate::verbs {
namespace {

bool readable(const std::string& path) {
  std::ifstream file(path);
  uint64_t value = 0;
  return static_cast<bool>(file >> value);
}

}  // namespace

PortTraffic::PortTraffic(const std::string& device, uint32_t port) {
  const std::string folder = "/sys/class/infiniband/" + device + "/ports/" + std::to_string(port);
  path_ = folder + "/counters/port_rcv_data";
  unit_ = 4;  // InfiniBand specification, PortCounters: in 32-bit words
  if (!readable(path_)) {
    // rxe and siw: their packets pass the network interface.
    std::string interface;
    std::ifstream(folder + "/gid_attrs/ndevs/0") >> interface;
    path_ = "/sys/class/net/" + interface + "/statistics/rx_bytes";
    unit_ = 1;
  }
  start_ = now();
}

uint64_t PortTraffic::now() const {
  std::ifstream file(path_);
  uint64_t value = 0;
  return file >> value ? value : 0;
}

uint64_t PortTraffic::received() const {
  const uint64_t value = now();
  return value < start_ ? 0 : (value - start_) * unit_;
}

}  // namespace rdma_migrate::verbs
