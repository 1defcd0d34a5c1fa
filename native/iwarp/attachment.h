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
  virtual void attachment_failed(Attachment& attachment, const Error& error) = 0;
};

class Attachment final : public Served {
 public:
  // context: without the nonces. crc: as of the first carrier.
  Attachment(Processor& processor, AttachmentUser& user, const fabric::QueuePairOptions& options,
             ResumeContext context, bool crc, Clock::time_point deadline);
  ~Attachment() override;

  // One of the two. here: where this end stands; it must not move meanwhile.
  void dial(const fabric::Endpoint& endpoint, const Positions& here);
  void answer(UniqueFd socket, const MpaFrame& request, const Attach& attach);
  Next serve(unsigned reasons) noexcept override;

  // Once attached.
  bool has_dialled() const { return dials_; }
  uint64_t epoch() const { return context_.epoch; }
  const ResumeContext& context() const { return context_; }
  const Positions& peer() const { return peer_; }
  UniqueFd take_socket();
  // Of the end that has answered: says RESUMED on the socket that has been taken.
  void say_resumed(int socket, const Positions& here) const;

 private:
  enum class Phase { kNew, kDialling, kSaying, kHearing, kDone };

  void step();
  void dial_on();
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
  const Clock::time_point deadline_;
  bool dials_ = false;
  Phase phase_ = Phase::kNew;
  Positions here_;
  Positions peer_;
  std::unique_ptr<Dialling> dialling_;
  UniqueFd socket_;
  int watched_ = -1;
  fabric::Bytes unsent_;
  fabric::Bytes heard_;
};

}  // namespace rdma_migrate::iwarp
