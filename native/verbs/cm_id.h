// An rdma_cm identifier with an event channel of its own.
#pragma once

#include <rdma/rdma_cma.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "fabric/address.h"
#include "fabric/fabric.h"

namespace rdma_migrate::verbs {

using Clock = std::chrono::steady_clock;

struct ChannelCloser {
  void operator()(rdma_event_channel* channel) const { rdma_destroy_event_channel(channel); }
};
using EventChannel = std::unique_ptr<rdma_event_channel, ChannelCloser>;

struct CmEvent {
  rdma_cm_event_type type = RDMA_CM_EVENT_ADDR_RESOLVED;
  int status = 0;
  fabric::Bytes private_data;  // as the device gives it: InfiniBand and RoCE pad with zeros
};

class CmId {
 public:
  // Throws Error: PROVIDER_UNAVAILABLE.
  CmId();
  // Takes over an incoming connection's id from its listener's channel.
  explicit CmId(rdma_cm_id* incoming);
  ~CmId();
  CmId(const CmId&) = delete;
  CmId& operator=(const CmId&) = delete;

  rdma_cm_id* get() const { return id_; }
  int fd() const { return channel_->fd; }
  // Never blocks.
  std::optional<CmEvent> next_event();
  // For listeners: the next event, with an id if it is a CONNECT_REQUEST. Never blocks.
  struct Incoming;
  std::optional<Incoming> next_incoming();

  fabric::SocketAddress local() const;
  std::string local_host() const;     // as an Endpoint has it
  std::string local_address() const;  // with the port
  std::string peer_address() const;
  // "mlx5_0", or "" while no device is bound.
  std::string device_name() const;
  bool is_iwarp() const;

 private:
  EventChannel channel_;
  rdma_cm_id* id_ = nullptr;
};

struct CmId::Incoming {
  std::unique_ptr<CmId> id;
  fabric::Bytes private_data;
  bool device_removed = false;
};

// Throws Error PROVIDER_UNAVAILABLE unless there is an RDMA device and rdma_cm can be used.
void require_devices();

}  // namespace rdma_migrate::verbs
