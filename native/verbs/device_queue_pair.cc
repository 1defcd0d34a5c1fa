#include "verbs/device_queue_pair.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>

#include "verbs/regions.h"

namespace rdma_migrate::verbs {
namespace {

const char* link_layer_name(uint8_t link_layer) {
  return link_layer == IBV_LINK_LAYER_ETHERNET ? "Ethernet" : "InfiniBand";
}

}  // namespace

DeviceQueuePair::DeviceQueuePair(std::shared_ptr<Device> device, std::unique_ptr<CmId> id,
                                 uint32_t max_send_wr, uint32_t max_recv_wr)
    : device_(std::move(device)), id_(std::move(id)) {
  const uint32_t most = device_->max_qp_wr();
  if (max_send_wr > most || max_recv_wr > most) {
    throw Error("CONNECT_FAILED", device_->name() + " takes at most " + std::to_string(most) +
                                      " work requests a queue; " +
                                      std::to_string(std::max(max_send_wr, max_recv_wr)) + " are needed");
  }
  ibv_context* const context = device_->context();
  completions_.reset(ibv_create_comp_channel(context));
  if (!completions_) throw device_->error("completion channel", errno);
  fcntl(completions_->fd, F_SETFL, fcntl(completions_->fd, F_GETFL) | O_NONBLOCK);
  send_cq_.reset(ibv_create_cq(context, static_cast<int>(max_send_wr), nullptr, completions_.get(), 0));
  if (send_cq_)
    recv_cq_.reset(ibv_create_cq(context, static_cast<int>(max_recv_wr), nullptr, completions_.get(), 0));
  if (!send_cq_ || !recv_cq_) throw device_->error("completion queue", errno);
  create_queue_pair(max_send_wr, max_recv_wr);
}

DeviceQueuePair::~DeviceQueuePair() { destroy(); }

void DeviceQueuePair::create_queue_pair(uint32_t max_send_wr, uint32_t max_recv_wr) {
  ibv_qp_init_attr attributes{};
  attributes.send_cq = send_cq_.get();
  attributes.recv_cq = recv_cq_.get();
  attributes.cap.max_send_wr = max_send_wr;
  attributes.cap.max_recv_wr = max_recv_wr;
  // What is sent may lie in two registrations.
  attributes.cap.max_send_sge = std::tuple_size_v<Regions::Buffers>;
  attributes.cap.max_recv_sge = 1;
  attributes.cap.max_inline_data = kInline;
  attributes.qp_type = IBV_QPT_RC;
  ibv_qp_init_attr plain = attributes;
  plain.cap.max_inline_data = 0;
  if (rdma_create_qp(id_->get(), device_->pd(), &attributes) == 0) {
    max_inline_ = std::min(attributes.cap.max_inline_data, kInline);
  } else if (rdma_create_qp(id_->get(), device_->pd(), &plain) != 0) {
    throw device_->error("queue pair", errno);
  }
  exists_ = true;
}

std::string DeviceQueuePair::description() const {
  ibv_port_attr port_facts{};
  std::string text = "device " + device_->name() + " port " + std::to_string(port());
  if (ibv_query_port(id_->get()->verbs, id_->get()->port_num, &port_facts) != 0) return text;
  return text + " (" + (id_->is_iwarp() ? "iWARP" : link_layer_name(port_facts.link_layer)) + ")";
}

size_t DeviceQueuePair::poll(ibv_cq* queue, std::span<ibv_wc> results) {
  return static_cast<size_t>(
      std::max(ibv_poll_cq(queue, static_cast<int>(results.size()), results.data()), 0));
}

void DeviceQueuePair::arm() {
  ibv_req_notify_cq(send_cq_.get(), 0);
  ibv_req_notify_cq(recv_cq_.get(), 0);
}

void DeviceQueuePair::take_completion_events() {
  ibv_cq* queue = nullptr;
  void* context = nullptr;
  // Destroying a queue waits until each of its events has been acknowledged.
  while (ibv_get_cq_event(completions_.get(), &queue, &context) == 0) ibv_ack_cq_events(queue, 1);
}

void DeviceQueuePair::disconnect() {
  if (exists_) rdma_disconnect(id_->get());
}

void DeviceQueuePair::destroy() {
  if (exists_) rdma_destroy_qp(id_->get());
  exists_ = false;
}

std::string DeviceQueuePair::port_problem() const {
  ibv_port_attr facts{};
  if (ibv_query_port(id_->get()->verbs, id_->get()->port_num, &facts) != 0 || facts.state == IBV_PORT_ACTIVE)
    return "";
  return "port " + std::to_string(port()) + " of " + device_->name() + " is " +
         ibv_port_state_str(facts.state);
}

bool DeviceQueuePair::in_error_state() const {
  ibv_qp_attr attributes{};
  ibv_qp_init_attr unused{};
  if (!exists_ || ibv_query_qp(id_->get()->qp, &attributes, IBV_QP_STATE, &unused) != 0) return false;
  return attributes.qp_state == IBV_QPS_ERR;
}

}  // namespace rdma_migrate::verbs
