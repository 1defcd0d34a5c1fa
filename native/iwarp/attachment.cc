#include "iwarp/attachment.h"

#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "iwarp/byte_order.h"
#include "iwarp/tcp.h"
#include "iwarp/terminate.h"

namespace rdma_migrate::iwarp {
namespace {

// RESUMED, or the TERMINATE of a peer that refuses.
constexpr size_t kMostUlpdu = 128;
static_assert(kResumeUlpdu <= kMostUlpdu);

[[noreturn]] void refuse(const std::string& why) {
  throw Error("MPA_ERROR", "a queue pair's new carrier: " + why);
}

}  // namespace

Attachment::Attachment(Processor& processor, AttachmentUser& user, const fabric::QueuePairOptions& options,
                       ResumeContext context, bool crc, Clock::time_point deadline)
    : processor_(processor),
      user_(user),
      options_(options),
      context_(std::move(context)),
      crc_(crc),
      deadline_(deadline) {}

Attachment::~Attachment() {
  unwatch(watched_);
  dialling_.reset();  // which may kick until it is gone
  processor_.forget(*this);
}

void Attachment::watch(int fd) {
  if (fd < 0 || fd == watched_) return;
  if (!processor_.watch(fd, *this))
    throw Error("RESOURCE_LIMIT", "the kernel watches no further socket for this process", errno);
  watched_ = fd;
}

void Attachment::unwatch(int fd) {
  if (fd < 0 || fd != watched_) return;
  processor_.unwatch(fd);
  watched_ = -1;
}

void Attachment::dial(const fabric::Endpoint& endpoint, const Positions& here) {
  said_ = here;
  begin_dialling(endpoint);
}

void Attachment::dial_ahead(const fabric::Endpoint& endpoint) { begin_dialling(endpoint); }

void Attachment::say(const Positions& here, Clock::time_point deadline) {
  said_ = here;
  deadline_ = deadline;
  processor_.resume(*this);
}

void Attachment::begin_dialling(const fabric::Endpoint& endpoint) {
  dials_ = true;
  context_.asked = random_bits();
  dialling_ = std::make_unique<Dialling>(
      endpoint, options_, encode_attach({context_.id, context_.epoch, context_.asked}), deadline_,
      [this] { processor_.kick(*this); }, [this](int socket) { unwatch(socket); });
  phase_ = Phase::kDialling;
  processor_.resume(*this);
}

void Attachment::answer(UniqueFd socket, const MpaFrame& request, const Attach& attach) {
  context_.asked = attach.nonce;
  context_.answered = random_bits();
  const fabric::Bytes said = encode_attach({context_.id, context_.epoch, context_.answered});
  const MpaFrame reply = make_reply(request, options_, said, false);
  if ((request.crc || reply.crc) != crc_) refuse("the peer asks for another use of CRC32C than before");
  unsent_ = encode(reply);
  set_socket_options(socket.get(), std::chrono::milliseconds(options_.stall_timeout_ms));
  watch(socket.get());
  socket_ = std::move(socket);
  phase_ = Phase::kSaying;
  processor_.resume(*this);
}

Served::Next Attachment::serve(unsigned) noexcept {
  if (phase_ == Phase::kNew || phase_ == Phase::kAttached || phase_ == Phase::kFailed) return Next::kWait;
  try {
    const Phase before = phase_;
    step();
    if (phase_ == Phase::kAttached) {
      user_.attached(*this);
      return Next::kWait;
    }
    if (phase_ == Phase::kWaiting) {
      if (before != phase_) user_.attachment_waits(*this);
      return Next::kWait;
    }
    if (Clock::now() >= deadline_) throw Error("TIMEOUT", "the peer did not attach in time");
    processor_.wake_by(*this, dialling_ ? dialling_->deadline() : deadline_);
  } catch (const Error& error) {
    phase_ = Phase::kFailed;
    user_.attachment_failed(*this, error);
  } catch (const std::exception& error) {
    phase_ = Phase::kFailed;
    user_.attachment_failed(*this, Error("RESOURCE_LIMIT", error.what()));
  }
  return Next::kWait;
}

void Attachment::step() {
  if (phase_ == Phase::kDialling) dial_on();
  if (phase_ == Phase::kWaiting) look_whether_there();
  if (phase_ == Phase::kWaiting && said_) {
    unsent_ = encode_resume(Control::kResume, context_, *said_);
    phase_ = Phase::kSaying;
  }
  if (phase_ == Phase::kSaying) say_on();
  if (phase_ == Phase::kHearing) hear_on();
}

void Attachment::dial_on() {
  const bool done = dialling_->step(Clock::now());
  watch(dialling_->fd());
  if (!done) return;
  take_answer(dialling_->negotiated());
  socket_ = dialling_->take_socket();
  dialling_.reset();
  phase_ = Phase::kWaiting;
}

// It has nothing to say before this end has.
void Attachment::look_whether_there() const {
  uint8_t byte;
  const ssize_t got = recv(socket_.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  if (got > 0) refuse("the peer speaks before it was asked");
  if (got == 0 || (errno != EAGAIN && errno != EINTR))
    throw Error("CONNECTION_LOST", "the peer ended the new connection", got < 0 ? errno : 0);
}

void Attachment::take_answer(const Negotiated& negotiated) {
  const std::optional<Attach> answer = decode_attach(negotiated.private_data);
  if (!answer || answer->id != context_.id || answer->epoch != context_.epoch)
    refuse("the answer is no ATTACH of this queue pair");
  if (negotiated.crc != crc_) refuse("the peer wants another use of CRC32C than before");
  context_.answered = answer->nonce;
}

void Attachment::say_on() {
  while (!unsent_.empty()) {
    const ssize_t sent = send(socket_.get(), unsent_.data(), unsent_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (sent < 0) throw Error("CONNECTION_LOST", "the new connection broke", errno);
    unsent_.erase(unsent_.begin(), unsent_.begin() + sent);
  }
  phase_ = Phase::kHearing;
}

// One FPDU, and not a byte more: messages may follow at once.
void Attachment::hear_on() {
  for (;;) {
    size_t size = kFpduLengthSize;
    if (heard_.size() >= kFpduLengthSize) {
      const size_t ulpdu = load_be16(heard_.data());
      if (ulpdu < kUntaggedSize || ulpdu > kMostUlpdu) refuse("something else than a control message came");
      size = fpdu_size(ulpdu);
      if (heard_.size() == size) return hear(heard_);
    }
    uint8_t chunk[fpdu_size(kMostUlpdu)];
    const ssize_t got = recv(socket_.get(), chunk, size - heard_.size(), MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) throw Error("CONNECTION_LOST", "the peer ended the new connection", got < 0 ? errno : 0);
    heard_.insert(heard_.end(), chunk, chunk + got);
  }
}

void Attachment::hear(const fabric::Bytes& fpdu) {
  const DdpHeader header = decode_ddp(fpdu.data() + kFpduLengthSize);
  if (header.opcode == static_cast<uint8_t>(RdmapOpcode::kTerminate)) {
    const auto payload = std::span(fpdu).subspan(kFpduLengthSize + kUntaggedSize);
    throw Error("TERMINATE_RECEIVED", "the peer refuses to go on: " + describe(decode_terminate(payload)));
  }
  const auto positions = decode_resume(dials_ ? Control::kResumed : Control::kResume, context_, fpdu);
  if (!positions) refuse("it is not the queue pair's peer that came");
  peer_ = *positions;
  phase_ = Phase::kAttached;
}

UniqueFd Attachment::take_socket() {
  unwatch(watched_);
  processor_.forget(*this);
  return std::move(socket_);
}

// It fits into the buffer of a fresh socket. If the stream is gone, its carrier finds that out.
void Attachment::say_resumed(int socket, const Positions& here) const {
  const fabric::Bytes fpdu = encode_resume(Control::kResumed, context_, here);
  send(socket, fpdu.data(), fpdu.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

}  // namespace rdma_migrate::iwarp
