#include "verbs/cm_id.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace rdma_migrate::verbs {
namespace {

constexpr const char* kCmDevice = "/dev/infiniband/rdma_cm";

EventChannel make_channel() {
  EventChannel channel(rdma_create_event_channel());
  if (!channel) {
    throw Error("PROVIDER_UNAVAILABLE",
                "cannot open rdma_cm's event channel; load the modules with modprobe -a rdma_ucm ib_uverbs",
                errno);
  }
  const int flags = fcntl(channel->fd, F_GETFL);
  fcntl(channel->fd, F_SETFL, flags | O_NONBLOCK);
  return channel;
}

fabric::SocketAddress copy_of(const sockaddr* address) {
  fabric::SocketAddress copy;
  if (address->sa_family == AF_INET) {
    copy.length = sizeof(sockaddr_in);
  } else if (address->sa_family == AF_INET6) {
    copy.length = sizeof(sockaddr_in6);
  }
  std::memcpy(&copy.storage, address, copy.length);
  return copy;
}

}  // namespace

void require_devices() {
  int count = 0;
  ibv_device** list = ibv_get_device_list(&count);
  if (list != nullptr) ibv_free_device_list(list);
  if (count == 0) {
    throw Error("PROVIDER_UNAVAILABLE",
                "this machine has no RDMA device (ibv_devices lists none); install the adapter's driver, or "
                "use provider iwarp");
  }
  if (access(kCmDevice, R_OK | W_OK) == 0) return;
  if (errno == ENOENT) {
    throw Error("PROVIDER_UNAVAILABLE", std::string("there is no ") + kCmDevice + "; modprobe rdma_ucm");
  }
  throw Error("PERMISSION_DENIED",
              std::string("not allowed to use ") + kCmDevice + "; give this user read and write access to it",
              errno);
}

CmId::CmId() : channel_((require_devices(), make_channel())) {
  if (rdma_create_id(channel_.get(), &id_, nullptr, RDMA_PS_TCP) != 0) {
    throw Error("PROVIDER_UNAVAILABLE", "cannot create an rdma_cm id", errno);
  }
}

CmId::CmId(rdma_cm_id* incoming) : channel_(make_channel()), id_(incoming) {
  if (rdma_migrate_id(id_, channel_.get()) != 0) {
    throw Error("PROVIDER_UNAVAILABLE", "cannot take over an incoming connection", errno);
  }
}

CmId::~CmId() {
  if (id_ != nullptr) rdma_destroy_id(id_);
}

std::optional<CmEvent> CmId::next_event() {
  rdma_cm_event* raw = nullptr;
  if (rdma_get_cm_event(channel_.get(), &raw) != 0) return std::nullopt;
  CmEvent event{raw->event, raw->status, {}};
  const auto* data = static_cast<const uint8_t*>(raw->param.conn.private_data);
  if (data != nullptr) event.private_data.assign(data, data + raw->param.conn.private_data_len);
  rdma_ack_cm_event(raw);
  return event;
}

std::optional<CmId::Incoming> CmId::next_incoming() {
  rdma_cm_event* raw = nullptr;
  if (rdma_get_cm_event(channel_.get(), &raw) != 0) return std::nullopt;
  Incoming incoming;
  rdma_cm_id* id = raw->event == RDMA_CM_EVENT_CONNECT_REQUEST ? raw->id : nullptr;
  incoming.device_removed = raw->event == RDMA_CM_EVENT_DEVICE_REMOVAL;
  const auto* data = static_cast<const uint8_t*>(raw->param.conn.private_data);
  if (id != nullptr && data != nullptr)
    incoming.private_data.assign(data, data + raw->param.conn.private_data_len);
  // Migrating waits for the acknowledgement of every event.
  rdma_ack_cm_event(raw);
  if (id == nullptr) return incoming;
  try {
    incoming.id = std::make_unique<CmId>(id);
  } catch (...) {
    rdma_destroy_id(id);
    throw;
  }
  return incoming;
}

fabric::SocketAddress CmId::local() const { return copy_of(rdma_get_local_addr(id_)); }
std::string CmId::local_host() const { return fabric::host_of(local()); }
std::string CmId::local_address() const { return fabric::to_string(local()); }
std::string CmId::peer_address() const { return fabric::to_string(copy_of(rdma_get_peer_addr(id_))); }
std::string CmId::device_name() const {
  return id_->verbs == nullptr ? "" : ibv_get_device_name(id_->verbs->device);
}
bool CmId::is_iwarp() const {
  return id_->verbs != nullptr && id_->verbs->device->transport_type == IBV_TRANSPORT_IWARP;
}

}  // namespace rdma_migrate::verbs
