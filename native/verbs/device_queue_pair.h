// A reliable connected queue pair on an rdma_cm id, with its protection domain and completion queues. Members
// are taken down in the order that verbs demands: queue pair, completion queues, completion channel,
// protection domain, id.
#pragma once

#include <infiniband/verbs.h>

#include <memory>
#include <span>
#include <string>

#include "verbs/cm_id.h"

namespace rdma_migrate::verbs {

class QueuePair {
 public:
  // id is bound to a device. Throws Error: CONNECT_FAILED.
  QueuePair(std::unique_ptr<CmId> id, uint32_t max_send_wr, uint32_t max_recv_wr);
  ~QueuePair();
  QueuePair(const QueuePair&) = delete;
  QueuePair& operator=(const QueuePair&) = delete;

  CmId& id() { return *id_; }
  ibv_pd* pd() { return pd_.get(); }
  ibv_context* device() { return id_->get()->verbs; }
  const ibv_qp* handle() const { return id_->get()->qp; }
  uint64_t max_mr_size() const { return max_mr_size_; }
  const std::string& device_name() const { return device_name_; }
  uint32_t port() const { return id_->get()->port_num; }
  // "device rxe0 port 1 (Ethernet)"
  std::string description() const;

  // Post one request. 0 or an errno.
  int post_send(ibv_send_wr& request);
  int post_recv(ibv_recv_wr& request);

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
  template <auto Free>
  struct Freer {
    template <typename T>
    void operator()(T* object) const {
      Free(object);
    }
  };
  static size_t poll(ibv_cq* queue, std::span<ibv_wc> results);
  void create_queue_pair(uint32_t max_send_wr, uint32_t max_recv_wr);

  std::unique_ptr<CmId> id_;
  std::unique_ptr<ibv_pd, Freer<ibv_dealloc_pd>> pd_;
  std::unique_ptr<ibv_comp_channel, Freer<ibv_destroy_comp_channel>> completions_;
  std::unique_ptr<ibv_cq, Freer<ibv_destroy_cq>> send_cq_;
  std::unique_ptr<ibv_cq, Freer<ibv_destroy_cq>> recv_cq_;
  std::string device_name_;
  uint64_t max_mr_size_ = 0;
  bool exists_ = false;  // the queue pair
};

}  // namespace rdma_migrate::verbs
