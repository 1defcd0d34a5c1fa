// The life of a connection on its receiving thread: handshake, receiving, the reason of the end, and the
// take-down.
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "fabric/address.h"
#include "iwarp/connection.h"
#include "iwarp/tcp.h"
#include "iwarp/tcp_info.h"
#include "iwarp/wait.h"
#include "thread.h"

namespace rdma_migrate::iwarp {
namespace {

// For the user of a connection that can receive no more to tell the peer why.
constexpr std::chrono::seconds kLastWord{5};

constexpr std::chrono::seconds kLinger{1};  // for a peer to take the last message before the socket goes

}  // namespace

void Connection::run() noexcept {
  std::optional<Error> reason;
  try {
    reason = live();
  } catch (const Stopped&) {
  } catch (const Error& error) {
    reason = error;
  } catch (const std::exception& error) {
    reason = Error("INTERNAL", std::string("the connection's thread failed: ") + error.what());
  }
  end_sending(reason);
  finish(reason);
}

std::optional<Error> Connection::live() {
  Clock::time_point deadline = Clock::now() + std::chrono::milliseconds(link_.options.connect_timeout_ms);
  Negotiated negotiated = set_up(deadline);
  Receiver receiver(link_, events_);
  if (own_.reject) {
    shutdown(link_.socket.get(), SHUT_WR);
    receiver.discard_until(Clock::now() + kLinger);
    return std::nullopt;
  }
  prepare(negotiated);
  try {
    if (!negotiated.awaits_ready) establish(negotiated.private_data);
    std::function<void()> on_ready;
    if (negotiated.awaits_ready) on_ready = [&] { establish(negotiated.private_data); };
    receiver.run(std::move(on_ready), deadline);
  } catch (const WireFault& fault) {
    terminate(receiver, fault);
    return fault.error();
  } catch (const PlacementFault& fault) {
    leave_a_word(receiver, fault.error);
    return fault.error;
  }
  return std::nullopt;
}

Negotiated Connection::set_up(Clock::time_point deadline) {
  Cancel cancel{link_.receiver_wake, link_.stopping, deadline};
  if (!passive_) return initiate(endpoint_, link_.options, own_.private_data, cancel, link_.socket);
  set_socket_options(link_.socket.get(), link_.stall_timeout());
  send_all(link_.socket.get(), encode(own_), cancel, link_.peer);
  link_.first_send = Clock::now() + kFirstSendPause;
  return negotiated_by_responder(request_, own_);
}

void Connection::prepare(const Negotiated& negotiated) {
  link_.crc = negotiated.crc;
  link_.pending_reads.set_limit(negotiated.ord);
  link_.read_jobs.set_limit(negotiated.ird);
  read_depth_.store(negotiated.ord);
  std::lock_guard lock(mutex_);
  measurable_ = true;
  info_.local_address = fabric::local_address_of(link_.socket.get());
  info_.peer_address = fabric::peer_address_of(link_.socket.get());
  info_.crc = negotiated.crc;
  info_.detail =
      "MPA revision " + std::to_string(negotiated.revision) + ", CRC32C " + (negotiated.crc ? "on" : "off");
}

void Connection::establish(const fabric::Bytes& private_data) {
  events_.on_established(private_data);
  begin_sending();
}

void Connection::begin_sending() {
  if (sender_) return;
  sender_ = std::make_unique<Sender>(link_, events_);
  sender_thread_ = start_thread([this] { sender_->run(); });
}

// The peer is told what it did wrong, and what it still sends is thrown away until it has taken that.
void Connection::terminate(Receiver& receiver, const WireFault& fault) {
  link_.request_terminate(receiver.terminate_payload(fault.code()));
  begin_sending();
  Clock::time_point deadline = Clock::now() + kLinger;
  try {
    receiver.discard_until(deadline);
    while (!link_.sender_finished.load() && Clock::now() < deadline) {
      wait_for(-1, 0, link_.receiver_wake, link_.stopping, deadline);
    }
  } catch (const Stopped&) {
    // close() was called meanwhile; the fault is still the reason of the end.
  }
}

// A reset would only tell the peer that we are gone, not that our disk is full. It may have much on its way,
// which is thrown away.
void Connection::leave_a_word(Receiver& receiver, const Error& error) {
  begin_sending();
  events_.on_receive_failed(error);
  try {
    receiver.discard_until(Clock::now() + std::min<Clock::duration>(kLastWord, link_.stall_timeout()));
  } catch (const Stopped&) {
    // close() was called meanwhile.
  }
}

void Connection::end_sending(std::optional<Error>& reason) {
  bool closed_here = link_.stopping.load();
  link_.stop();
  if (sender_thread_.joinable()) sender_thread_.join();
  if (reason || closed_here) return;
  // The kernel reports a reset once: when the sender has met it, the receiver has seen an ordinary end. EPIPE
  // is different: the peer had ended the stream in order before.
  std::optional<Error> error = link_.get_sender_error();
  if (error && error->sys_errno() != EPIPE) reason = error;
}

void Connection::finish(const std::optional<Error>& reason) {
  std::vector<fabric::Completion> completions;
  link_.send_queue.flush(completions, link_.local_fault.load());
  for (const fabric::Completion& completion : completions) events_.on_send(completion);
  completions.clear();
  link_.recv_queue.flush(completions);
  for (const fabric::Completion& completion : completions) events_.on_recv(completion);
  {
    std::lock_guard lock(mutex_);
    if (link_.truncated.load()) {
      linger reset{1, 0};
      setsockopt(link_.socket.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
    if (std::exchange(measurable_, false)) wire_time_ = unacknowledged_time(link_.socket.get());
    link_.socket.reset();
  }
  events_.on_closed(reason ? &*reason : nullptr);
}

}  // namespace rdma_migrate::iwarp
