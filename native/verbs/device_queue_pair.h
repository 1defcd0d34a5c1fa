// A reliable connected queue pair on an rdma_cm id, with its completion queues. Members are taken down in the
// order that verbs demands: queue pair, completion queues, completion channel, id; then its share of the
// device, whose protection domain goes with the last.
#pragma once

#include <infiniband/verbs.h>

#include <memory>
#include <span>
#include <string>

#include "verbs/cm_id.h"
#include "verbs/device.h"

namespace rdma_migrate::verbs {

class DeviceQueuePair {
 public:
  // id is bound to the device. Throws Error: CONNECT_FAILED.
  DeviceQueuePair(std::shared_ptr<Device> device, std::unique_ptr<CmId> id, uint32_t max_send_wr,
                  uint32_t max_recv_wr);
  ~DeviceQueuePair();
  DeviceQueuePair(const DeviceQueuePair&) = delete;

  CmId& id() { return *id_; }
  const Device& device() const { return *device_; }
  const ibv_qp* handle() const { return id_->get()->qp; }
  uint32_t port() const { return id_->get()->port_num; }
  // "device rxe0 port 1 (Ethernet)"
  std::string description() const;

  // Post a chain of requests. 0, or an errno with *bad the first that was not taken.
  int post_send(ibv_send_wr* first, ibv_send_wr** bad) { return ibv_post_send(id_->get()->qp, first, bad); }
  int post_recv(ibv_recv_wr* first, ibv_recv_wr** bad) { return ibv_post_recv(id_->get()->qp, first, bad); }

  // The longest SEND that may be posted as IBV_SEND_INLINE: the device gets its bytes with the request and
  // need not fetch them. 0 where the device takes none.
  static constexpr uint32_t kInline = 64;  // control messages without a body, and barriers
  uint32_t max_inline() const { return max_inline_; }

  // Completions that are there; at most results.size(). Never blocks.
  size_t poll_send(std::span<ibv_wc> results) { return poll(send_cq_.get(), results); }
  size_t poll_recv(std::span<ibv_wc> results) { return poll(recv_cq_.get(), results); }
  // Readable after the next completion that comes after arm(). Poll once more between arm() and waiting.
  int completion_fd() const { return completions_->fd; }
  void arm();
  void take_completion_events();

  // Every posted request comes back flushed.
  void disconnect();
  // After it the device touches no memory for this queue pair.
  void destroy();

  // "port 1 of rxe0 is DOWN", or "" while it is up or cannot be asked.
  std::string port_problem() const;
  // The device has stopped the queue pair because of an error.
  bool in_error_state() const;

 private:
  static size_t poll(ibv_cq* queue, std::span<ibv_wc> results);
  void create_queue_pair(uint32_t max_send_wr, uint32_t max_recv_wr);

  const std::shared_ptr<Device> device_;
  const std::unique_ptr<CmId> id_;
  CompletionChannel completions_;
  CompletionQueue send_cq_;
  CompletionQueue recv_cq_;
  bool exists_ = false;  // the queue pair
  uint32_t max_inline_ = 0;
};

}  // namespace rdma_migrate::verbs
