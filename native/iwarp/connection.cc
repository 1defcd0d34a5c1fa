#include "iwarp/connection.h"

#include <sys/socket.h>

#include "fabric/address.h"
#include "iwarp/tcp_info.h"
#include "thread.h"

namespace rdma_migrate::iwarp {
namespace {

class IwarpMemoryRegion final : public fabric::MemoryRegion {
 public:
  IwarpMemoryRegion(std::shared_ptr<StagTable> table, uint32_t stag, uint64_t address, uint64_t length)
      : table_(std::move(table)), stag_(stag), address_(address), length_(length) {}
  ~IwarpMemoryRegion() override { table_->remove(stag_); }
  uint64_t address() const override { return address_; }
  uint64_t length() const override { return length_; }
  uint32_t lkey() const override { return stag_; }
  uint32_t rkey() const override { return stag_; }

 private:
  const std::shared_ptr<StagTable> table_;
  const uint32_t stag_;
  const uint64_t address_;
  const uint64_t length_;
};

[[noreturn]] void bad_argument(const std::string& message) { throw Error("INVALID_ARGUMENT", message); }

}  // namespace

Connection::Connection(const fabric::Endpoint& endpoint, const fabric::ConnectionOptions& options,
                       fabric::ConnectionEvents& events)
    : endpoint_(endpoint), passive_(false), events_(events), link_(options) {
  link_.peer = fabric::to_string(endpoint);
  info_.provider = "iwarp";
  info_.peer_address = link_.peer;
}

Connection::Connection(UniqueFd socket, MpaFrame request, const fabric::ConnectionOptions& options,
                       fabric::ConnectionEvents& events)
    : passive_(true), request_(std::move(request)), events_(events), link_(options) {
  link_.socket = std::move(socket);
  link_.peer = fabric::peer_address_of(link_.socket.get());
  info_.provider = "iwarp";
  info_.peer_address = link_.peer;
  info_.local_address = fabric::local_address_of(link_.socket.get());
}

Connection::~Connection() { close(); }

bool Connection::observe_placement(std::shared_ptr<fabric::PlacementObserver> observer) {
  link_.observe_placement(std::move(observer));
  return true;
}

std::unique_ptr<fabric::MemoryRegion> Connection::register_memory(uint64_t address, uint64_t length,
                                                                  unsigned access) {
  uint32_t stag = link_.stags->add(address, length, access);
  return std::make_unique<IwarpMemoryRegion>(link_.stags, stag, address, length);
}

void Connection::connect(std::span<const uint8_t> private_data) {
  if (passive_) bad_argument("connect() on the passive side; use accept() or reject()");
  MpaFrame frame = make_request(link_.options, private_data, 2);
  encode(frame);  // refuses private data that is too long, here and not on the thread
  start(std::move(frame));
}

void Connection::accept(std::span<const uint8_t> private_data) {
  if (!passive_) bad_argument("accept() on the active side; use connect()");
  MpaFrame frame = make_reply(request_, link_.options, private_data, false);
  encode(frame);
  start(std::move(frame));
}

void Connection::reject(std::span<const uint8_t> private_data) {
  if (!passive_) bad_argument("reject() on the active side; use connect()");
  MpaFrame frame = make_reply(request_, link_.options, private_data, true);
  encode(frame);
  start(std::move(frame));
}

void Connection::start(MpaFrame frame) {
  std::lock_guard lock(mutex_);
  if (state_ == State::kClosed) throw Error("CONNECTION_CLOSED", "the connection has been closed");
  if (state_ == State::kRunning) bad_argument("the connection has been started already");
  own_ = std::move(frame);
  receiver_thread_ = start_thread([this] { run(); });
  state_ = State::kRunning;
}

void Connection::check_local(uint32_t lkey, uint64_t address, uint32_t length, unsigned right) const {
  if (length == 0) return;
  std::optional<Region> region = link_.stags->find(lkey);
  if (!region)
    bad_argument("lkey " + std::to_string(lkey) + " belongs to no memory region of this connection");
  if (!region->covers(address, length)) {
    bad_argument("a buffer of " + std::to_string(length) + " bytes at " + std::to_string(address) +
                 " leaves its memory region of " + std::to_string(region->length) + " bytes at " +
                 std::to_string(region->address));
  }
  if ((region->access & right) != right)
    bad_argument("a buffer for received data needs a region with local write access");
}

bool Connection::post_send(const fabric::SendWorkRequest& request) {
  bool read = request.opcode == fabric::Opcode::kRdmaRead;
  if (request.opcode == fabric::Opcode::kRecv)
    bad_argument("a RECV posted to the send queue; use post_recv()");
  if (link_.send_queue.closed())
    throw Error("CONNECTION_CLOSED", "the connection has ended; nothing can be sent any more");
  check_local(request.lkey, request.address, request.length, read ? unsigned{fabric::kAccessLocalWrite} : 0U);
  if (read && read_depth_.load() == 0)
    bad_argument("a READ, but " + link_.peer + " takes none (its IRD is 0)");
  switch (link_.send_queue.post(request)) {
    case SendQueue::Posted::kFull:
      return false;
    case SendQueue::Posted::kQueuedSenderIdle:
      link_.sender_wake.signal();
      return true;
    case SendQueue::Posted::kQueued:
      return true;
  }
  return true;
}

bool Connection::post_recv(const fabric::RecvWorkRequest& request) {
  check_local(request.lkey, request.address, request.length, fabric::kAccessLocalWrite);
  return link_.recv_queue.post(request);
}

void Connection::disconnect() {
  link_.send_queue.close();
  link_.drain();
}

void Connection::close() {
  std::lock_guard one_at_a_time(close_mutex_);
  State before;
  {
    std::lock_guard lock(mutex_);
    before = std::exchange(state_, State::kClosed);
  }
  if (before == State::kNew) {
    if (passive_) {
      fabric::Bytes reply = encode(make_reply(request_, link_.options, {}, true));
      send(link_.socket.get(), reply.data(), reply.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    finish(std::nullopt);
    return;
  }
  link_.stop();
  if (receiver_thread_.joinable()) receiver_thread_.join();
}

fabric::ConnectionInfo Connection::info() const {
  std::lock_guard lock(mutex_);
  return info_;
}

// A WRITE completes when the kernel has taken it, which may be long before it is on the wire.
std::chrono::microseconds Connection::wire_time() const {
  std::lock_guard lock(mutex_);
  return measurable_ ? unacknowledged_time(link_.socket.get()) : wire_time_;
}

}  // namespace rdma_migrate::iwarp
