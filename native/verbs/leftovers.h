// What may take long to destroy, or for ever: a queue pair whose handshake was given up (an iWARP driver's
// destructors wait for its end, siw's up to ten seconds), and an rdma_cm id that has talked to a peer (the
// kernel waits until its last message has left, and rxe of Linux 6.1 was seen never to say so). Nobody who
// closes something waits for it.
#pragma once

#include <cstddef>
#include <memory>

namespace rdma_migrate::verbs {

// Destroys things on threads that all of the process share, and that end when nothing is left. One does the
// work; another takes over from it after a moment without progress, so that a thing that hangs holds up none
// of the others, until as many hang as there are threads at most: what comes then is kept.
class Leftovers {
 public:
  static constexpr size_t kMaxThreads = 64;

  // The process's. Never destroyed: its threads may run until the process ends.
  static Leftovers& of_process();

  Leftovers();
  ~Leftovers() = delete;
  Leftovers(const Leftovers&) = delete;

  // Gives this share of it up, elsewhere. Any thread; it waits for the thing only where there is no memory to
  // keep it. Where no thread is to be had it is kept until the next one comes, which tries again.
  void destroy(std::shared_ptr<void> thing) noexcept;

 private:
  struct State;
  State& state_;
};

inline void destroy_elsewhere(std::shared_ptr<void> thing) noexcept {
  Leftovers::of_process().destroy(std::move(thing));
}

}  // namespace rdma_migrate::verbs
