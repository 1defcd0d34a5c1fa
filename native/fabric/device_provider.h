// A provider that works through RDMA devices of this machine, and how it is loaded: its shared object exports
// one function of the type below under the name kDevicePluginSymbol.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "fabric/fabric.h"

namespace rdma_migrate::fabric {

struct Gid {
  uint32_t index = 0;
  std::string gid;     // "fe80::5054:ff:fe12:3456"
  std::string type;    // "IB", "RoCE v1", "RoCE v2", "" where the kernel does not tell
  std::string netdev;  // the network interface behind it, or ""
};

struct DevicePort {
  uint32_t number = 0;
  std::string state;        // "ACTIVE", "DOWN", ... (ibv_port_state)
  std::string link_layer;   // "Ethernet", "InfiniBand"
  uint32_t active_mtu = 0;  // bytes
  std::vector<Gid> gids;
};

struct Device {
  std::string name;       // "mlx5_0"
  std::string transport;  // "InfiniBand" (RoCE too) or "iWARP"
  std::string firmware;
  std::string problem;       // why it cannot be used, or ""; without it the rest counts
  uint64_t max_mr_size = 0;  // bytes in one registration
  uint32_t max_mr = 0;
  uint32_t max_qp = 0;
  uint32_t max_qp_wr = 0;
  uint32_t max_cqe = 0;
  uint32_t max_qp_rd_atom = 0;
  std::vector<DevicePort> ports;
  // Of this host, that connections through this device can use, as an Endpoint has them: "::1", no brackets.
  std::vector<std::string> addresses;
};

enum class Direction { kConnect, kListen };

// Whether a device leads to an address.
struct Reach {
  bool reachable = false;
  std::string device;  // "" for listening on every address
  uint32_t port = 0;
  std::string reason;  // one clause for logs: why, or why not
};

// What a loopback connection through a device showed.
struct Proof {
  bool ok = false;
  std::string address;  // that was used
  uint64_t bytes = 0;   // written and compared
  double milliseconds = 0;
  std::string message;
};

class DeviceProvider : public Provider {
 public:
  // Every RDMA device, usable or not. Throws Error: PROVIDER_UNAVAILABLE.
  virtual std::vector<Device> devices() = 0;
  // Asks the kernel which device leads to the endpoint. Connecting: a route and a neighbour must be found
  // through a device, which may put ARP on the wire; whether the peer speaks RDMA is not known before a
  // connection is tried. Listening: a device has that address, or, for every address, any device has an
  // active port. Blocks up to timeout.
  virtual Reach reach(const Endpoint& endpoint, Direction direction, std::chrono::milliseconds timeout) = 0;
  // Connects the device to itself, writes into registered memory and compares. Blocks up to timeout.
  virtual Proof prove(const std::string& device, std::chrono::milliseconds timeout) = 0;
};

// The two sides are C++ and must come out of one build: the factory gets the loader's mark and makes a
// provider only if it is its own, else it says so in *mark and returns nullptr. The caller owns the provider.
using MakeDeviceProvider = DeviceProvider* (*)(const char* loader_mark, const char** own_mark);
inline constexpr const char* kDevicePluginSymbol = "rdma_migrate_device_provider";
// The number counts changes of fabric.h and of this file.
#define RDMA_MIGRATE_PLUGIN_MARK "rdma-migrate fabric 5, " __VERSION__

}  // namespace rdma_migrate::fabric
