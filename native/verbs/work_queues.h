// The two queues of a queue pair: what is posted, what of it the device has, and what a completion says.
// Posting is for any thread, the rest for the processing thread.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "fabric/fabric.h"
#include "verbs/device_queue_pair.h"
#include "verbs/recv_ring.h"
#include "verbs/regions.h"
#include "verbs/send_ring.h"

namespace rdma_migrate::verbs {

class WorkQueues {
 public:
  // Requests that the provider posts itself, beside max_send_wr: see probe().
  static constexpr uint32_t kOwnRequests = 1;

  // refused is called, maybe on a posting thread, once refusal() has something to say; it must not wait.
  WorkQueues(const fabric::QueuePairOptions& options, std::shared_ptr<Regions> regions,
             std::function<void()> refused);

  // See fabric::QueuePair.
  size_t post_send(std::span<const fabric::SendWorkRequest> requests);
  size_t post_recv(std::span<const fabric::RecvWorkRequest> requests);
  // Nothing more is taken for sending; what was posted still leaves.
  void close_sends();

  // RECVs go to this device from here on. Throws Error: CONNECT_FAILED.
  void attach(std::shared_ptr<DeviceQueuePair> carrier);
  // A RECV that the device refuses is told by the end of the connection, not by post_recv().
  void set_established() { established_.store(true); }
  // Sends go to the device from here on.
  void open_sends();
  // Nothing is taken or given to the device any more, which may be destroyed.
  void detach();
  // The request that the device did not take, nothing so far. It is the oldest.
  std::optional<Error> refusal();

  // Append what is to be reported, in the order of posting. What failed for a reason of its own is returned,
  // the first of it.
  std::optional<Error> complete_sends(std::span<const ibv_wc> completions, const std::string& peer,
                                      std::vector<fabric::Completion>& due);
  std::optional<Error> complete_recvs(std::span<const ibv_wc> completions, const std::string& peer,
                                      std::vector<fabric::Completion>& due);
  // Everything that is left, as flushed; the oldest send as failed if oldest_failed.
  void flush_sends(std::vector<fabric::Completion>& due, bool oldest_failed);
  void flush_recvs(std::vector<fabric::Completion>& due);

  // A WRITE of nothing, which needs no key, after everything that was posted: its completion tells that the
  // peer's device is there and that all before it is done. One at a time.
  void probe();
  // The device owes a completion of a send.
  bool expects_send();
  // Every send has been carried out.
  bool sends_idle();
  // A send that was asked for has come to nothing, or may yet.
  bool sends_lost();
  // The device has none of the requests.
  bool device_idle();

  fabric::Counters counters;

 private:
  void give_sends();
  void give_recvs();
  void refuse(Error error);
  Error why_not(const fabric::SendWorkRequest& request) const;
  struct Chain;
  size_t chain_sends(Chain& chain);
  bool is_inline(const fabric::SendWorkRequest& request) const;
  std::optional<Error> failure_of(const ibv_wc& completion, const std::string& peer);

  const std::shared_ptr<Regions> regions_;
  const std::function<void()> refused_;
  std::atomic<bool> established_{false};

  std::mutex send_mutex_;  // what follows
  SendRing send_ring_;
  std::shared_ptr<DeviceQueuePair> send_carrier_;  // nullptr: sends wait
  bool sends_closed_ = false;
  std::optional<Error> refusal_;
  bool probing_ = false;
  uint64_t probe_position_ = 0;
  uint64_t lost_sends_ = 0;

  std::mutex recv_mutex_;  // what follows
  RecvRing recv_ring_;
  std::shared_ptr<DeviceQueuePair> recv_carrier_;  // nullptr: RECVs wait
  bool recvs_closed_ = false;

  std::shared_ptr<DeviceQueuePair> carrier_;  // the processing thread's
};

}  // namespace rdma_migrate::verbs
