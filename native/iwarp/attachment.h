// The way to a new carrier of a resumable queue pair: a TCP stream, MPA request and reply with ATTACH, RESUME
// and RESUMED. A state machine that never waits; until it has attached, nothing of the queue pair changes.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "iwarp/dialling.h"
#include "iwarp/processor.h"
#include "iwarp/resume_frames.h"

namespace rdma_migrate::iwarp {

class Attachment;

// Told on the processor, once for each attachment, which is of no use then and must not be destroyed inside.
class AttachmentUser {
 public:
  virtual ~AttachmentUser() = default;
  // The peer has shown that it knows the ticket, and has said where it stands.
  virtual void attached(Attachment& attachment) = 0;
  // Of dial_ahead(): the peer has answered, and waits for say().
  virtual void attachment_waits(Attachment& attachment) = 0;
  virtual void attachment_failed(Attachment& attachment, const Error& error) = 0;
};

class Attachment final : public Served {
 public:
  // context: without the nonces. crc: as of the first carrier.
  Attachment(Processor& processor, AttachmentUser& user, const fabric::QueuePairOptions& options,
             ResumeContext context, bool crc, Clock::time_point deadline);
  ~Attachment() override;

  // One of the three. here: where this end stands; it must not move meanwhile.
  void dial(const fabric::Endpoint& endpoint, const Positions& here);
  // Goes no further than the peer's answer before say(), which may be long.
  void dial_ahead(const fabric::Endpoint& endpoint);
  void answer(UniqueFd socket, const MpaFrame& request, const Attach& attach);
  // Of dial_ahead(), once.
  void say(const Positions& here, Clock::time_point deadline);
  Next serve(unsigned reasons) noexcept override;

  bool waits() const { return phase_ == Phase::kWaiting; }
  // It has said nothing of where this end stands.
  bool is_dialling_ahead() const { return !said_; }
  // Once attached.
  bool is_attached() const { return phase_ == Phase::kAttached; }
  bool has_dialled() const { return dials_; }
  uint64_t epoch() const { return context_.epoch; }
  const ResumeContext& context() const { return context_; }
  const Positions& peer() const { return peer_; }
  UniqueFd take_socket();
  // Of the end that has answered: says RESUMED on the socket that has been taken.
  void say_resumed(int socket, const Positions& here) const;

 private:
  enum class Phase { kNew, kDialling, kWaiting, kSaying, kHearing, kAttached, kFailed };

  void step();
  void dial_on();
  void begin_dialling(const fabric::Endpoint& endpoint);
  void look_whether_there() const;
  void say_on();
  void hear_on();
  void take_answer(const Negotiated& negotiated);
  void hear(const fabric::Bytes& fpdu);
  void watch(int fd);
  void unwatch(int fd);

  Processor& processor_;
  AttachmentUser& user_;
  const fabric::QueuePairOptions options_;
  ResumeContext context_;
  const bool crc_;
  Clock::time_point deadline_;
  bool dials_ = false;
  std::optional<Positions> said_;  // none: say() says so later
  Phase phase_ = Phase::kNew;
  Positions peer_;
  std::unique_ptr<Dialling> dialling_;
  UniqueFd socket_;
  int watched_ = -1;
  fabric::Bytes unsent_;
  fabric::Bytes heard_;
};

}  // namespace rdma_migrate::iwarp
