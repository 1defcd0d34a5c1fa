// The resumable queue pairs of this process that a new carrier may be for. A peer that attaches comes to
// whichever listener there is.
#pragma once

#include <map>
#include <mutex>

#include "fd.h"
#include "iwarp/mpa.h"
#include "iwarp/resume_frames.h"

namespace rdma_migrate::iwarp {

class Attachable {
 public:
  virtual ~Attachable() = default;
  // Any thread; must not wait. The socket is its own from here on: whoever it is that asks.
  virtual void attach(UniqueFd socket, MpaFrame request, const Attach& attach) = 0;
};

class Attachables {
 public:
  // An id that this process has drawn.
  void add(const Bits128& id, Attachable& queue_pair) {
    std::lock_guard lock(mutex_);
    by_id_.emplace(id, &queue_pair);
  }
  // When it has returned, no attach() is being called, nor will be.
  void remove(const Bits128& id, const Attachable& queue_pair) {
    std::lock_guard lock(mutex_);
    const auto found = by_id_.find(id);
    if (found != by_id_.end() && found->second == &queue_pair) by_id_.erase(found);
  }
  // False: there is none with that id, and socket and request are the caller's still.
  bool hand(UniqueFd& socket, MpaFrame& request, const Attach& attach) {
    std::lock_guard lock(mutex_);
    const auto found = by_id_.find(attach.id);
    if (found == by_id_.end()) return false;
    found->second->attach(std::move(socket), std::move(request), attach);
    return true;
  }

 private:
  std::mutex mutex_;
  std::map<Bits128, Attachable*> by_id_;
};

}  // namespace rdma_migrate::iwarp
