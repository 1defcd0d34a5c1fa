// The completion queue of one queue pair, between the provider's threads and JavaScript, which drains it.
#pragma once

#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "bindings/verbs_records.h"
#include "fabric/types.h"

namespace rdma_migrate::bindings {

// Bounded by its users: a post takes no more than room() says, and a provider has no more outstanding than
// the queue pair's two limits. So no more than twice their sum is ever here, and none is lost.
class VerbsCompletions {
 public:
  VerbsCompletions(uint32_t max_send_wr, uint32_t max_recv_wr)
      : max_send_wr_(max_send_wr), max_recv_wr_(max_recv_wr) {}

  // Provider's thread. True: JavaScript waits, and is to be woken; once for each time that it began to wait.
  bool push(std::span<const fabric::Completion> completions);
  // Nothing is pushed any more.
  void end();

  // Moves the oldest to out: how many. With none there, and arm, the next push() says that JavaScript waits.
  size_t poll(std::span<uint8_t> out, bool arm);
  // Those that nobody has taken, oldest first.
  std::vector<fabric::Completion> all() const;
  // They are somewhere else now.
  void forget();
  // None is here, and none will be.
  bool exhausted() const;

  // How many requests may be posted to one queue: its limit less its completions that nobody has taken.
  size_t send_room() const;
  size_t recv_room() const;

 private:
  mutable std::mutex mutex_;
  const uint32_t max_send_wr_;
  const uint32_t max_recv_wr_;
  std::vector<CompletionRecord> records_;  // those before first_ have been taken
  size_t first_ = 0;
  size_t recvs_ = 0;  // of those that are here
  bool armed_ = false;
  bool ended_ = false;
};

}  // namespace rdma_migrate::bindings
