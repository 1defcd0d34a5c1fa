// A queue pair of the software RNIC: its queues and numbers, its state, and the carrier of now.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

#include "fabric/fabric.h"
#include "iwarp/attachables.h"
#include "iwarp/carrier.h"
#include "iwarp/image.h"
#include "iwarp/resumption.h"

namespace rdma_migrate::iwarp {

class QueuePair final : public fabric::QueuePair,
                        private CarrierUser,
                        private AttachmentUser,
                        private Attachable,
                        private LoggedUser,
                        private Served {
 public:
  QueuePair(std::shared_ptr<RegionTable> regions, const fabric::QueuePairOptions& options,
            fabric::QueuePairEvents& events);
  ~QueuePair() override;

  void connect(const fabric::Endpoint& endpoint, std::span<const uint8_t> private_data) override;
  void accept(std::unique_ptr<fabric::ConnectionRequest> request, std::span<const uint8_t> private_data,
              bool may_send_at_once) override;
  size_t post_send(std::span<const fabric::SendWorkRequest> requests) override;
  size_t post_recv(std::span<const fabric::RecvWorkRequest> requests) override;
  void allow_large_segments() override { messages_.large_segments.store(true); }
  void protect(const fabric::Protection& protection) override;
  void resume_receive(bool for_good) override;
  void notify() override;
  void disconnect() override;
  void close() override;
  void prepare_move(const fabric::MovePlan& plan) override;
  fabric::Bytes announcement() const override;
  void stop_for_move(std::chrono::milliseconds drain) override;
  fabric::Bytes freeze(const fabric::TakeCompletions& take) override;
  void abort_move() override;
  void commit_move() override;
  void expect(std::span<const uint8_t> announcement) override;
  void thaw(std::span<const uint8_t> image) override;
  void take_over(std::chrono::milliseconds longest_pause) override;
  fabric::QueuePairState state() const override { return state_.load(); }
  fabric::QueuePairInfo info() const override;
  const fabric::Counters& counters() const override { return messages_.counters; }
  std::chrono::microseconds wire_time() const override;

 private:
  struct Opening {
    fabric::Endpoint endpoint;  // to dial; none: answer
    fabric::Bytes private_data;
    std::optional<Answer> answer;
    std::optional<fabric::Protection> protection;
    std::string peer;
  };

  void start(Opening opening);
  void kick();
  Next serve(unsigned reasons) noexcept override;
  void begin(Opening opening);
  void drain();
  void end();
  bool protect_from_start(const fabric::Protection& protection);
  void protect_now(const fabric::Protection& protection);
  void describe_stream();
  void check_startable() const;
  void check(const fabric::SendWorkRequest& request) const;
  void change(fabric::QueuePairChange change);
  void check_local(uint32_t lkey, uint64_t address, uint32_t length, unsigned right) const;

  void carrier_up(const Negotiated& negotiated, int socket) override;
  void carrier_faulted() override { change(fabric::QueuePairChange::kFault); }
  void carrier_choked(const Error& reason) override { messages_.events.on_receive_failed(reason); }
  void carrier_closing() override;
  void carrier_down(const std::optional<Error>& reason) override;
  void carrier_lost(const Error& reason) override;

  // queue_pair_resume.cc: a resumable one.
  struct Arrival {
    UniqueFd socket;
    MpaFrame request;
    Attach attach;
  };
  void ask(fabric::Bytes& private_data);
  void grant(fabric::Bytes& private_data);
  // private_data: the peer's; becomes what its user has said.
  void agree(const Negotiated& negotiated, int socket, fabric::Bytes& private_data);
  void become_resumable();
  void heard_first() override;
  void suspend(const Error& reason);
  std::string why_hopeless(Clock::time_point now) const;
  void look_after_link();
  void look_after_old_place(Clock::time_point now);
  void dial_again(Clock::time_point now);
  Attachment& add_attachment(uint64_t epoch, Clock::time_point now);
  void drop(Attachment& attachment);
  Positions positions() const;
  bool may_attach() const;
  void take_arrivals();
  void go_on(Attachment& attachment);
  void end_resumption();
  void attach(UniqueFd socket, MpaFrame request, const Attach& attach) override;
  void attached(Attachment& attachment) override;
  void attachment_failed(Attachment& attachment, const Error& error) override;
  void attachment_waits(Attachment& attachment) override;
  void heard_control(std::span<const uint8_t> payload) override;

  // queue_pair_move.cc: this end moves, or has.
  void on_processor(const std::function<void()>& work);
  bool is_frozen() const {
    return resumption_ && resumption_->moving && resumption_->moving->step == Moving::Step::kFrozen;
  }
  void check_moves(Moving::Step due) const;
  uint64_t moved() const;
  void say_of_move();
  void look_after_move(Clock::time_point now);
  void heard_prepared(const MoveWord& word);
  void heard_stopped(const MoveWord& word);
  void heard_aborted(const MoveWord& word);
  QueuePairImage image(const fabric::TakeCompletions& take) const;
  void stay();
  void await_peer(const ResumeTail& terms, bool crc);
  void restore(QueuePairImage image);

  // queue_pair_follow.cc: the peer moves.
  void heard_prepare(std::span<const uint8_t> payload);
  void heard_stop(const MoveWord& word);
  void heard_abort(const MoveWord& word);
  bool is_way(const Attachment& attachment) const {
    return resumption_->following && resumption_->following->way.get() == &attachment;
  }
  void say(fabric::Bytes control, bool at_rest = false);
  void answer_prepare(Answered answer);
  void forget_following();
  void look_after_following(Clock::time_point now);
  void dial_new_place(Clock::time_point now);
  void way_failed(const Error& error);
  void stay_with_old_place();
  void follow();

  const std::shared_ptr<Engine> engine_;
  Processor& processor_;
  MessageState messages_;
  std::atomic<fabric::QueuePairState> state_{fabric::QueuePairState::kInit};
  std::atomic<size_t> ord_{kReadDepth};
  std::atomic<bool> notified_{false};
  std::atomic<bool> draining_{false};

  mutable std::mutex mutex_;  // what follows
  bool started_ = false;
  bool closed_ = false;
  std::optional<Opening> opening_;
  std::optional<fabric::Protection> protection_;  // of the carrier to come
  fabric::QueuePairInfo info_;
  std::optional<Negotiated> negotiated_;
  bool protected_ = false;
  int measurable_ = -1;                    // the carrier's socket, while it is open
  std::chrono::microseconds wire_time_{};  // after that
  std::vector<Arrival> arrivals_;

  std::mutex close_mutex_;
  std::unique_ptr<Carrier> carrier_;  // the processor's, made and destroyed there
  bool ended_ = false;                // the processor's
  std::optional<std::chrono::steady_clock::time_point> drain_by_;  // the processor's
  // Of who has dialled, until the peer is heard: its private data.
  std::optional<fabric::Bytes> unannounced_;
  Clock::time_point announce_by_{};
  std::optional<Resumption> resumption_;  // asked for; the processor's once it has started
};

}  // namespace rdma_migrate::iwarp
