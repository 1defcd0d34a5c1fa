#include "iwarp/connection_request.h"

#include <sys/socket.h>

#include "fabric/address.h"

namespace rdma_migrate::iwarp {

ConnectionRequest::ConnectionRequest(UniqueFd socket, MpaFrame request,
                                     const fabric::QueuePairOptions& options, std::shared_ptr<void> place)
    : socket_(std::move(socket)),
      request_(std::move(request)),
      asks_resumable_(take_ask(request_.private_data)),
      options_(options),
      peer_(fabric::peer_address_of(socket_.get())),
      place_(std::move(place)) {}

ConnectionRequest::~ConnectionRequest() {
  if (socket_) reject({});
}

void ConnectionRequest::check_open() const {
  if (!socket_)
    throw Error("INVALID_ARGUMENT", "the connection request from " + peer_ + " has been answered already");
}

// A reply fits into any fresh socket's buffer. What the peer has sent too early is read, so that closing
// makes no reset of it, which could overtake the reply.
void ConnectionRequest::reject(std::span<const uint8_t> private_data) {
  check_open();
  const fabric::Bytes reply = encode(make_reply(request_, options_, private_data, true));
  send(socket_.get(), reply.data(), reply.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  shutdown(socket_.get(), SHUT_WR);
  uint8_t scrap[4096];
  recv(socket_.get(), scrap, sizeof scrap, MSG_DONTWAIT);
  socket_.reset();
}

Answer ConnectionRequest::accept(const fabric::QueuePairOptions& options,
                                 std::span<const uint8_t> private_data, bool may_send_at_once) {
  check_open();
  MpaFrame reply = make_reply(request_, options, private_data, false);
  encode(reply);  // refuses private data that is too long
  return {std::move(socket_), request_, std::move(reply), may_send_at_once};
}

}  // namespace rdma_migrate::iwarp
