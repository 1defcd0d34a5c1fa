// An rdma_cm identifier with an event channel of its own.
#pragma once

#include <rdma/rdma_cma.h>

#include <chrono>
#include <future>
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
  // Never waits for the kernel, unless the id has only been bound: then nothing can hold it up, and its
  // address is free again afterwards. Of the device the id keeps librdmacm's context alone: queue pair,
  // completion queues and protection domain may go while the kernel still has it.
  ~CmId();
  CmId(const CmId&) = delete;
  CmId& operator=(const CmId&) = delete;

  rdma_cm_id* get() const { return own_->id; }
  int fd() const { return own_->channel->fd; }
  // From here on the kernel may have something under way for it, or nobody wants its address: it is destroyed
  // elsewhere.
  void set_busy() { busy_ = true; }
  // Destroys it, and waits until its address is free again, for patience at most: what the kernel holds
  // longer, or what no thread is to be had for, goes when it can.
  static void destroy_within(std::unique_ptr<CmId> id, std::chrono::milliseconds patience);
  // Never blocks.
  std::optional<CmEvent> next_event();
  // For listeners: the next event, with an id if it is a CONNECT_REQUEST. Never blocks. counted is kept until
  // that id has gone, descriptor and all, or drop_count().
  struct Incoming;
  std::optional<Incoming> next_incoming(std::shared_ptr<void> counted);
  void drop_count() { own_->counted.reset(); }

  fabric::SocketAddress local() const;
  std::string local_host() const;     // as an Endpoint has it
  std::string local_address() const;  // with the port
  std::string peer_address() const;
  // "mlx5_0", or "" while no device is bound.
  std::string device_name() const;
  bool is_iwarp() const;

 private:
  // What is destroyed, maybe on another thread and later.
  struct Own {
    ~Own();
    std::shared_ptr<void> counted;
    std::shared_ptr<Own> listener;  // whose channel the id is still on
    EventChannel channel;
    rdma_cm_id* id = nullptr;
    std::promise<void> gone;
  };

  explicit CmId(std::shared_ptr<Own> own) : own_(std::move(own)), busy_(true) {}
  // Takes an incoming connection's id over from its listener's channel.
  static std::unique_ptr<CmId> take_over(std::shared_ptr<Own> own);

  std::shared_ptr<Own> own_;
  bool busy_ = false;
};

struct CmId::Incoming {
  std::unique_ptr<CmId> id;
  fabric::Bytes private_data;
  bool device_removed = false;
};

// Throws Error PROVIDER_UNAVAILABLE unless there is an RDMA device and rdma_cm can be used.
void require_devices();

}  // namespace rdma_migrate::verbs
