#include "verbs/cm_id.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "verbs/leftovers.h"

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

CmId::CmId() : own_(std::make_shared<Own>()) {
  require_devices();
  own_->channel = make_channel();
  if (rdma_create_id(own_->channel.get(), &own_->id, nullptr, RDMA_PS_TCP) != 0) {
    throw Error("PROVIDER_UNAVAILABLE", "cannot create an rdma_cm id", errno);
  }
}

CmId::~CmId() {
  if (busy_) destroy_elsewhere(std::move(own_));
}

void CmId::destroy_within(std::unique_ptr<CmId> id, std::chrono::milliseconds patience) {
  if (!id) return;
  const std::future<void> gone = id->own_->gone.get_future();
  id->set_busy();
  id.reset();
  gone.wait_for(patience);
}

CmId::Own::~Own() {
  if (id != nullptr) rdma_destroy_id(id);
  channel.reset();
  gone.set_value();
}

std::unique_ptr<CmId> CmId::take_over(std::shared_ptr<Own> own) {
  std::unique_ptr<CmId> taken(new CmId(std::move(own)));
  EventChannel channel = make_channel();
  if (rdma_migrate_id(taken->get(), channel.get()) != 0) {
    throw Error("PROVIDER_UNAVAILABLE", "cannot take over an incoming connection", errno);
  }
  taken->own_->channel = std::move(channel);
  taken->own_->listener.reset();
  return taken;
}

std::optional<CmEvent> CmId::next_event() {
  rdma_cm_event* raw = nullptr;
  if (rdma_get_cm_event(own_->channel.get(), &raw) != 0) return std::nullopt;
  CmEvent event{raw->event, raw->status, {}};
  const auto* data = static_cast<const uint8_t*>(raw->param.conn.private_data);
  if (data != nullptr) event.private_data.assign(data, data + raw->param.conn.private_data_len);
  rdma_ack_cm_event(raw);
  return event;
}

std::optional<CmId::Incoming> CmId::next_incoming(std::shared_ptr<void> counted) {
  auto own = std::make_shared<Own>();  // first: no id is without an owner
  own->counted = std::move(counted);
  own->listener = own_;
  rdma_cm_event* raw = nullptr;
  if (rdma_get_cm_event(own_->channel.get(), &raw) != 0) return std::nullopt;
  if (raw->event == RDMA_CM_EVENT_CONNECT_REQUEST) own->id = raw->id;
  Incoming incoming;
  incoming.device_removed = raw->event == RDMA_CM_EVENT_DEVICE_REMOVAL;
  const auto* data = static_cast<const uint8_t*>(raw->param.conn.private_data);
  if (own->id != nullptr && data != nullptr)
    incoming.private_data.assign(data, data + raw->param.conn.private_data_len);
  // Migrating waits for the acknowledgement of every event.
  rdma_ack_cm_event(raw);
  if (own->id != nullptr) incoming.id = take_over(std::move(own));
  return incoming;
}

fabric::SocketAddress CmId::local() const { return copy_of(rdma_get_local_addr(get())); }
std::string CmId::local_host() const { return fabric::host_of(local()); }
std::string CmId::local_address() const { return fabric::to_string(local()); }
std::string CmId::peer_address() const { return fabric::to_string(copy_of(rdma_get_peer_addr(get()))); }
std::string CmId::device_name() const {
  return get()->verbs == nullptr ? "" : ibv_get_device_name(get()->verbs->device);
}
bool CmId::is_iwarp() const {
  return get()->verbs != nullptr && get()->verbs->device->transport_type == IBV_TRANSPORT_IWARP;
}

}  // namespace rdma_migrate::verbs
