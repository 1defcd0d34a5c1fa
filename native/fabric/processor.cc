#include "fabric/processor.h"

#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <climits>

#include "thread.h"

namespace rdma_migrate::fabric {
namespace {

constexpr int kEventsAtOnce = 64;

}  // namespace

Processor::Processor() : epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  epoll_event wanted{};
  wanted.events = EPOLLIN;
  wanted.data.ptr = nullptr;
  if (!epoll_ || epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, event_.fd(), &wanted) != 0) {
    throw Error("RESOURCE_LIMIT",
                "cannot make an epoll descriptor; raise the limit of open files (ulimit -n)", errno);
  }
  thread_ = start_thread([this] { run(); });
}

Processor::~Processor() {
  stopping_.store(true);
  wake();
  thread_.join();
}

void Processor::wake() {
  if (asleep_.load(std::memory_order_seq_cst)) event_.signal();
}

void Processor::kick(Served& served) {
  if (served.kicked_.exchange(true, std::memory_order_seq_cst)) return;
  {
    std::lock_guard lock(mutex_);
    kicked_.push_back(&served);
  }
  wake();
}

void Processor::call(const std::function<void()>& work) {
  if (is_here()) return work();
  Call call{&work};
  std::unique_lock lock(mutex_);
  calls_.push_back(&call);
  wake();
  called_.wait(lock, [&call] { return call.done; });
}

bool Processor::watch(int fd, Served& served) {
  epoll_event wanted{};
  wanted.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  wanted.data.ptr = &served;
  return epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &wanted) == 0;
}

void Processor::unwatch(int fd) { epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr); }

void Processor::wake_by(Served& served, Clock::time_point when) {
  if (served.due_ && *served.due_ <= when) return;
  if (served.due_) due_.erase({*served.due_, &served});
  served.due_ = when;
  due_.insert({when, &served});
}

void Processor::forget(Served& served) {
  if (served.due_) due_.erase({*served.due_, &served});
  served.due_.reset();
  if (served.queued_) {
    std::replace(queue_.begin(), queue_.end(), &served, static_cast<Served*>(nullptr));
    std::replace(round_.begin(), round_.end(), &served, static_cast<Served*>(nullptr));
    served.queued_ = false;
  }
  std::lock_guard lock(mutex_);
  std::erase(kicked_, &served);
}

void Processor::retire(std::unique_ptr<Served> served) { retired_.push_back(std::move(served)); }

void Processor::run() noexcept {
  while (!stopping_.load(std::memory_order_seq_cst)) {
    wait_and_collect();
    collect_kicked();
    collect_due();
    serve_round();
    run_calls();
    retired_.clear();
  }
}

int Processor::timeout() const {
  if (!queue_.empty()) return 0;
  if (due_.empty()) return -1;
  // Rounded up: a wait must not end before its time and spin.
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(due_.begin()->first - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, INT_MAX));
}

void Processor::wait_and_collect() {
  int patience = timeout();
  if (patience != 0) {
    asleep_.store(true, std::memory_order_seq_cst);
    std::lock_guard lock(mutex_);
    if (!kicked_.empty() || !calls_.empty() || stopping_.load()) patience = 0;
  }
  epoll_event events[kEventsAtOnce];
  const int count = epoll_wait(epoll_.get(), events, kEventsAtOnce, patience);
  asleep_.store(false, std::memory_order_seq_cst);
  for (int at = 0; at < count; ++at) {
    if (events[at].data.ptr == nullptr) {
      event_.drain();
      continue;
    }
    unsigned reasons = 0;
    if ((events[at].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) reasons |= Served::kEnding;
    if ((events[at].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) reasons |= Served::kReadable;
    if ((events[at].events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0) reasons |= Served::kWritable;
    enqueue(*static_cast<Served*>(events[at].data.ptr), reasons);
  }
}

void Processor::enqueue(Served& served, unsigned reason) {
  served.reasons_ |= reason;
  if (std::exchange(served.queued_, true)) return;
  queue_.push_back(&served);
}

void Processor::collect_kicked() {
  std::lock_guard lock(mutex_);
  for (Served* served : kicked_) {
    served->kicked_.store(false, std::memory_order_seq_cst);
    enqueue(*served, Served::kKicked);
  }
  kicked_.clear();
}

void Processor::collect_due() {
  if (due_.empty()) return;
  const Clock::time_point now = Clock::now();
  while (!due_.empty() && due_.begin()->first <= now) {
    Served& served = *due_.begin()->second;
    due_.erase(due_.begin());
    served.due_.reset();
    enqueue(served, Served::kDue);
  }
}

void Processor::serve_round() {
  round_.swap(queue_);
  // By index: forget() writes into it.
  for (size_t at = 0; at < round_.size(); ++at) {
    Served* const served = round_[at];
    if (served == nullptr) continue;
    served->queued_ = false;
    const unsigned reasons = std::exchange(served->reasons_, 0);
    // It may forget itself in there; forget() leaves no trace of it in round_ or queue_.
    served->queued_ = true;
    const Served::Next next = served->serve(reasons);
    if (round_[at] == nullptr) continue;
    served->queued_ = false;
    if (next == Served::Next::kGoOn) served->reasons_ |= Served::kResumed;
    // Reasons may have come in there too.
    if (served->reasons_ != 0) enqueue(*served, 0);
  }
  round_.clear();
}

void Processor::run_calls() {
  for (;;) {
    Call* call = nullptr;
    {
      std::lock_guard lock(mutex_);
      if (calls_.empty()) return;
      call = calls_.front();
      calls_.erase(calls_.begin());
    }
    (*call->work)();
    std::lock_guard lock(mutex_);
    call->done = true;
    called_.notify_all();
  }
}

}  // namespace rdma_migrate::fabric
