#include "verbs/devices.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <infiniband/verbs.h>
#include <net/if.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "verbs/cm_id.h"

namespace rdma_migrate::verbs {
namespace {

struct ContextCloser {
  void operator()(ibv_context* context) const { ibv_close_device(context); }
};
using Context = std::unique_ptr<ibv_context, ContextCloser>;

std::string gid_type_name(uint32_t type) {
  switch (type) {
    case IBV_GID_TYPE_IB:
      return "IB";
    case IBV_GID_TYPE_ROCE_V1:
      return "RoCE v1";
    case IBV_GID_TYPE_ROCE_V2:
      return "RoCE v2";
    default:
      return "";
  }
}

std::string gid_text(const ibv_gid& gid) {
  char text[INET6_ADDRSTRLEN];
  return inet_ntop(AF_INET6, gid.raw, text, sizeof text) == nullptr ? "" : text;
}

std::string interface_name(uint32_t index) {
  char name[IF_NAMESIZE];
  return index == 0 || if_indextoname(index, name) == nullptr ? "" : name;
}

std::vector<fabric::Gid> gids_of(ibv_context* context, uint32_t port) {
  std::array<ibv_gid_entry, 256> entries{};
  const ssize_t count = ibv_query_gid_table(context, entries.data(), entries.size(), 0);
  std::vector<fabric::Gid> gids;
  for (ssize_t at = 0; at < count; ++at) {
    const ibv_gid_entry& entry = entries[static_cast<size_t>(at)];
    if (entry.port_num != port) continue;
    gids.push_back({entry.gid_index, gid_text(entry.gid), gid_type_name(entry.gid_type),
                    interface_name(entry.ndev_ifindex)});
  }
  ibv_gid first{};
  // Kernels and devices without a table to read.
  if (gids.empty() && ibv_query_gid(context, static_cast<uint8_t>(port), 0, &first) == 0) {
    gids.push_back({0, gid_text(first), "", ""});
  }
  return gids;
}

const char* state_name(ibv_port_state state) {
  switch (state) {
    case IBV_PORT_DOWN:
      return "DOWN";
    case IBV_PORT_INIT:
      return "INIT";
    case IBV_PORT_ARMED:
      return "ARMED";
    case IBV_PORT_ACTIVE:
      return "ACTIVE";
    case IBV_PORT_ACTIVE_DEFER:
      return "ACTIVE_DEFER";
    default:
      return "unknown";
  }
}

uint32_t mtu_bytes(ibv_mtu mtu) { return mtu >= IBV_MTU_256 && mtu <= IBV_MTU_4096 ? 128u << mtu : 0; }

fabric::DevicePort port_of(ibv_context* context, uint32_t number) {
  fabric::DevicePort port;
  port.number = number;
  ibv_port_attr facts{};
  if (ibv_query_port(context, static_cast<uint8_t>(number), &facts) != 0) {
    port.state = "unknown";
    return port;
  }
  port.state = state_name(facts.state);
  port.link_layer = facts.link_layer == IBV_LINK_LAYER_ETHERNET ? "Ethernet" : "InfiniBand";
  port.active_mtu = mtu_bytes(facts.active_mtu);
  port.gids = gids_of(context, number);
  return port;
}

void describe(ibv_context* context, fabric::Device& device) {
  ibv_device_attr limits{};
  if (ibv_query_device(context, &limits) != 0) {
    device.problem = std::string("cannot be queried: ") + std::strerror(errno);
    return;
  }
  device.firmware = limits.fw_ver;
  device.max_mr_size = limits.max_mr_size;
  device.max_mr = static_cast<uint32_t>(std::max(limits.max_mr, 0));
  device.max_qp = static_cast<uint32_t>(std::max(limits.max_qp, 0));
  device.max_qp_wr = static_cast<uint32_t>(std::max(limits.max_qp_wr, 0));
  device.max_cqe = static_cast<uint32_t>(std::max(limits.max_cqe, 0));
  device.max_qp_rd_atom = static_cast<uint32_t>(std::max(limits.max_qp_rd_atom, 0));
  for (uint32_t port = 1; port <= limits.phys_port_cnt; ++port)
    device.ports.push_back(port_of(context, port));
}

fabric::Device describe(ibv_device* found) {
  fabric::Device device;
  device.name = ibv_get_device_name(found);
  device.transport = found->transport_type == IBV_TRANSPORT_IWARP ? "iWARP" : "InfiniBand";
  const Context context(ibv_open_device(found));
  if (context) {
    describe(context.get(), device);
  } else {
    device.problem = std::string("cannot be opened: ") + std::strerror(errno);
  }
  return device;
}

// rdma_cm knows which device has an address: it is asked for each of this host's.
void find_addresses(std::vector<fabric::Device>& devices) {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return;
  for (ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr) continue;
    const int family = entry->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    try {
      const CmId id;
      if (rdma_bind_addr(id.get(), entry->ifa_addr) != 0) continue;
      const std::string name = id.device_name();
      auto owner = std::find_if(devices.begin(), devices.end(),
                                [&](const fabric::Device& d) { return d.name == name; });
      // Without the port, which rdma_cm has chosen.
      if (owner != devices.end()) owner->addresses.push_back(id.local_host());
    } catch (const Error&) {
      break;  // rdma_cm cannot be used at all: the devices are shown without addresses
    }
  }
  freeifaddrs(list);
}

}  // namespace

std::vector<fabric::Device> list_devices() {
  int count = 0;
  ibv_device** list = ibv_get_device_list(&count);
  std::vector<fabric::Device> devices;
  for (int at = 0; at < count; ++at) devices.push_back(describe(list[at]));
  if (list != nullptr) ibv_free_device_list(list);
  if (!devices.empty()) find_addresses(devices);
  return devices;
}

}  // namespace rdma_migrate::verbs
