#include "verbs/connection.h"

#include <cerrno>

#include "fabric/address.h"
#include "thread.h"

namespace rdma_migrate::verbs {
namespace {

// rdma_conn_param counts private data in a byte. iWARP carries all of it, InfiniBand and RoCE what the CM's
// messages leave (InfiniBand specification volume 1, section 12.7; a request's 92 less the 36 of annex A11).
constexpr size_t kMaxData = 255;
constexpr size_t kMaxReplyData = 196;
constexpr size_t kMaxRejectData = 148;

[[noreturn]] void bad_argument(const std::string& message) { throw Error("INVALID_ARGUMENT", message); }

[[noreturn]] void closed(const char* what) {
  throw Error("CONNECTION_CLOSED",
              std::string("the connection has ended; nothing can be ") + what + " any more");
}

ibv_wr_opcode device_opcode(fabric::Opcode opcode) {
  switch (opcode) {
    case fabric::Opcode::kRdmaWrite:
      return IBV_WR_RDMA_WRITE;
    case fabric::Opcode::kRdmaRead:
      return IBV_WR_RDMA_READ;
    default:
      return IBV_WR_SEND;
  }
}

}  // namespace

void check_private_data(size_t size, size_t most) {
  if (size <= most) return;
  bad_argument("private data of " + std::to_string(size) + " bytes; this RDMA device carries " +
               std::to_string(most) + " here");
}

Connection::Connection(const fabric::Endpoint& endpoint, const fabric::ConnectionOptions& options,
                       fabric::ConnectionEvents& events)
    : endpoint_(endpoint),
      passive_(false),
      request_is_iwarp_(false),
      options_(options),
      events_(events),
      peer_(fabric::to_string(endpoint)),
      send_ring_(options.max_send_wr),
      recv_ring_(options.max_recv_wr) {
  info_.provider = "verbs";
  info_.peer_address = peer_;
}

Connection::Connection(std::unique_ptr<CmId> id, fabric::Bytes request_data,
                       const fabric::ConnectionOptions& options, fabric::ConnectionEvents& events)
    : passive_(true),
      request_is_iwarp_(id->is_iwarp()),
      options_(options),
      events_(events),
      request_data_(std::move(request_data)),
      peer_(id->peer_address()),
      send_ring_(options.max_send_wr),
      recv_ring_(options.max_recv_wr) {
  info_.provider = "verbs";
  make_queue_pair(std::move(id));
}

Connection::~Connection() { close(); }

std::unique_ptr<fabric::MemoryRegion> Connection::register_memory(uint64_t address, uint64_t length,
                                                                  unsigned access) {
  return regions_->add(address, length, access);
}

void Connection::connect(std::span<const uint8_t> private_data) {
  if (passive_) bad_argument("connect() on the passive side; use accept() or reject()");
  check_private_data(private_data.size(), kMaxData);  // once the device is known, less
  start(Opening::kConnect, private_data);
}

void Connection::accept(std::span<const uint8_t> private_data) {
  if (!passive_) bad_argument("accept() on the active side; use connect()");
  check_private_data(private_data.size(), request_is_iwarp_ ? kMaxData : kMaxReplyData);
  start(Opening::kAccept, private_data);
}

void Connection::reject(std::span<const uint8_t> private_data) {
  if (!passive_) bad_argument("reject() on the active side; use connect()");
  check_private_data(private_data.size(), request_is_iwarp_ ? kMaxData : kMaxRejectData);
  start(Opening::kReject, private_data);
}

void Connection::start(Opening opening, std::span<const uint8_t> private_data) {
  std::lock_guard lock(mutex_);
  if (state_ == State::kClosed) throw Error("CONNECTION_CLOSED", "the connection has been closed");
  if (state_ == State::kRunning) bad_argument("the connection has been started already");
  opening_ = opening;
  own_data_.assign(private_data.begin(), private_data.end());
  thread_ = start_thread([this] { run(); });
  state_ = State::kRunning;
}

bool Connection::post_send(const fabric::SendWorkRequest& request) {
  const bool read = request.opcode == fabric::Opcode::kRdmaRead;
  if (request.opcode == fabric::Opcode::kRecv)
    bad_argument("a RECV posted to the send queue; use post_recv()");
  std::lock_guard lock(send_mutex_);
  if (sends_ended_ || draining_.load()) closed("sent");
  regions_->check(request.lkey, request.address, request.length,
                  read ? unsigned{fabric::kAccessLocalWrite} : 0U);
  if (send_ring_.full()) return false;
  send_ring_.push(request);
  give_sends();
  return true;
}

// Under send_mutex_. What the device refuses ends the connection; it stays in the ring and is flushed.
void Connection::give_sends() {
  if (!sends_open_ || give_failure_) return;
  while (send_ring_.has_ungiven()) {
    const fabric::SendWorkRequest& request = send_ring_.next_to_give();
    Regions::Buffers buffers{};
    const int count = regions_->buffers(request.lkey, request.address, request.length, buffers);
    int error_number = 0;
    if (count < 0) {
      give_failure_ =
          Error("INVALID_ARGUMENT",
                "the memory region of a posted work request was deregistered before its bytes were sent");
    } else {
      ibv_send_wr work{};
      work.wr_id = send_ring_.given();
      work.sg_list = buffers.data();
      work.num_sge = count;
      work.opcode = device_opcode(request.opcode);
      work.send_flags = request.signaled ? IBV_SEND_SIGNALED : 0;
      work.wr.rdma.remote_addr = request.remote_address;
      work.wr.rdma.rkey = request.rkey;
      error_number = queue_pair_->post_send(work);
      if (error_number != 0)
        give_failure_ = Error("CONNECTION_LOST", "the device took no request for " + peer_, error_number);
    }
    if (give_failure_) return wake_.signal();
    send_ring_.mark_given();
  }
}

bool Connection::post_recv(const fabric::RecvWorkRequest& request) {
  std::lock_guard lock(recv_mutex_);
  if (recvs_ended_) closed("received");
  regions_->check(request.lkey, request.address, request.length, fabric::kAccessLocalWrite);
  if (recv_ring_.full()) return false;
  recv_ring_.push(request);
  give_recvs();
  return true;
}

// Under recv_mutex_. Throws Error when the device refuses one; not on a connection that is up, which has
// ended then and says so itself: the RECV is flushed at its end.
void Connection::give_recvs() {
  while (recvs_open_ && recv_ring_.has_ungiven()) {
    const fabric::RecvWorkRequest& request = recv_ring_.next_to_give();
    Regions::Buffers buffers{};
    const int count = regions_->buffers(request.lkey, request.address, request.length, buffers);
    ibv_recv_wr work{};
    work.wr_id = request.wr_id;
    work.sg_list = buffers.data();
    work.num_sge = count;
    const int error_number = count < 0 ? EFAULT : queue_pair_->post_recv(work);
    if (error_number != 0 && established_) return;
    if (error_number != 0) {
      throw Error("CONNECT_FAILED", "the device took no RECV of " + std::to_string(request.length) + " bytes",
                  error_number);
    }
    recv_ring_.mark_given();
  }
}

void Connection::disconnect() {
  draining_.store(true);
  wake_.signal();
}

void Connection::close() {
  std::lock_guard one_at_a_time(close_mutex_);
  State before;
  {
    std::lock_guard lock(mutex_);
    before = std::exchange(state_, State::kClosed);
  }
  if (before == State::kClosed) return;
  if (before == State::kNew) {
    if (passive_) rdma_reject(queue_pair_->id().get(), nullptr, 0);
    finish(std::nullopt);
    return;
  }
  stopping_.store(true);
  wake_.signal();
  thread_.join();
}

fabric::ConnectionInfo Connection::info() const {
  std::lock_guard lock(mutex_);
  return info_;
}

}  // namespace rdma_migrate::verbs
