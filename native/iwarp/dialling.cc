#include "iwarp/dialling.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "iwarp/tcp.h"

namespace rdma_migrate::iwarp {
namespace {

Error connect_error(const std::string& peer, int error_number) {
  switch (error_number) {
    case ECONNREFUSED:
      return Error("CONNECTION_REFUSED",
                   "nothing listens on " + peer + "; start the receiving side first and check the port",
                   error_number);
    case ETIMEDOUT:
      return Error("TIMEOUT", peer + " did not answer; check the address and the firewalls on the way",
                   error_number);
    case ECONNRESET:
      return Error("CONNECTION_LOST", peer + " took the connection and reset it at once; its log may say why",
                   error_number);
    case EMFILE:
    case ENFILE:
      return Error("RESOURCE_LIMIT", "no descriptor is left to connect to " + peer + " (ulimit -n)",
                   error_number);
    default:
      return Error("CONNECT_FAILED",
                   "cannot connect to " + peer + "; check the address, routes and firewalls", error_number);
  }
}

bool is_writable(int fd) {
  pollfd entry{fd, POLLOUT, 0};
  return poll(&entry, 1, 0) > 0;
}

}  // namespace

Dialling::Dialling(const fabric::Endpoint& endpoint, const fabric::QueuePairOptions& options,
                   fabric::Bytes private_data, Clock::time_point deadline, std::function<void()> wake,
                   std::function<void(int socket)> let_go)
    : endpoint_(endpoint),
      options_(options),
      private_data_(std::move(private_data)),
      deadline_(deadline),
      peer_(fabric::to_string(endpoint)),
      resolution_(std::make_unique<fabric::Resolution>(endpoint, std::move(wake))),
      let_go_(std::move(let_go)) {}

bool Dialling::step(Clock::time_point now) {
  for (;;) {
    const Phase before = phase_;
    bool done = false;
    switch (phase_) {
      case Phase::kResolving:
        resolve_step(now);
        break;
      case Phase::kConnecting:
        connect_step(now);
        break;
      case Phase::kAsking:
        ask_step(now);
        break;
      case Phase::kAwaitingReply:
        done = reply_step(now);
        break;
    }
    if (done) return true;
    if (phase_ == before) return false;
  }
}

void Dialling::resolve_step(Clock::time_point now) {
  std::optional<std::vector<fabric::SocketAddress>> found = resolution_->result();
  if (found) {
    addresses_ = std::move(*found);
    return start_connecting(now);
  }
  if (now < deadline_) return;
  throw Error("TIMEOUT",
              "the name service did not find '" + endpoint_.host + "' in time; try a numeric address");
}

void Dialling::start_connecting(Clock::time_point now) {
  for (;; ++at_) {
    const fabric::SocketAddress& address = addresses_[at_];
    const size_t left = addresses_.size() - at_;
    const std::string peer = fabric::to_string(address);
    phase_ = Phase::kConnecting;
    try_by_ = now + (deadline_ - now) / static_cast<int>(left);
    if (socket_) let_go_(socket_.get());
    socket_ = UniqueFd(::socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    int error_number = errno;
    if (socket_) {
      if (connect(socket_.get(), address.get(), address.length) == 0 || errno == EINPROGRESS) return;
      error_number = errno;
    }
    if (left == 1) throw connect_error(peer, error_number);
  }
}

void Dialling::connect_step(Clock::time_point now) {
  int error_number = 0;
  if (is_writable(socket_.get())) {
    socklen_t size = sizeof error_number;
    getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &error_number, &size);
  } else if (now >= std::min(try_by_, deadline_)) {
    error_number = ETIMEDOUT;
  } else {
    return;
  }
  if (error_number != 0) {
    if (at_ + 1 == addresses_.size()) throw connect_error(fabric::to_string(addresses_[at_]), error_number);
    ++at_;
    return start_connecting(now);
  }
  set_socket_options(socket_.get(), std::chrono::milliseconds(options_.stall_timeout_ms));
  request_ = make_request(options_, private_data_, revision_);
  unsent_ = encode(request_);
  try_by_ = deadline_;
  phase_ = Phase::kAsking;
}

bool Dialling::ask_step(Clock::time_point now) {
  while (!unsent_.empty()) {
    const ssize_t sent = send(socket_.get(), unsent_.data(), unsent_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) fail_lost("broke during the handshake", errno);
    if (sent < 0 && now >= deadline_) throw no_answer();
    if (sent < 0) return false;
    unsent_.erase(unsent_.begin(), unsent_.begin() + sent);
  }
  reply_.emplace(MpaKind::kReply);
  phase_ = Phase::kAwaitingReply;
  return true;
}

bool Dialling::reply_step(Clock::time_point now) {
  MpaFrame reply;
  try {
    switch (reply_->read(socket_.get())) {
      case MpaReader::Went::kDry:
        if (now >= deadline_) throw no_answer();
        return false;
      case MpaReader::Went::kEnded:
        throw Error(
            "CONNECTION_LOST",
            peer_ +
                " closed the connection instead of answering; check that it speaks iWARP and see its log");
      case MpaReader::Went::kBroken:
        fail_lost("broke before the peer had answered", errno);
      case MpaReader::Went::kDone:
        reply = reply_->frame();
    }
  } catch (const Error& error) {
    if (error.code() != "MPA_ERROR") throw;
    throw Error("MPA_ERROR", std::string(error.what()) + " (from " + peer_ + ")");
  }
  if (worth_older_revision(request_, reply)) {
    --revision_;
    start_connecting(now);
    return false;
  }
  check_reply(request_, reply, peer_);
  negotiated_ = negotiated_by_initiator(request_, reply);
  return true;
}

void Dialling::fail_lost(const std::string& what, int error_number) const {
  throw Error("CONNECTION_LOST", "the connection to " + peer_ + " " + what, error_number);
}

Error Dialling::no_answer() const {
  return Error("TIMEOUT", peer_ +
                              " accepted the TCP connection but did not complete the MPA handshake in time; "
                              "check that it speaks iWARP");
}

}  // namespace rdma_migrate::iwarp
