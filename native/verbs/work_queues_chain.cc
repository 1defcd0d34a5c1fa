// How posted sends reach the device: chains of requests, short SENDs with their bytes.
#include <array>
#include <cstring>

#include "memory/guarded.h"
#include "verbs/chain.h"
#include "verbs/work_queues.h"

namespace rdma_migrate::verbs {
namespace {

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

// False: the memory is not there, and the device says so in its own way.
bool copy_of(const fabric::SendWorkRequest& request, uint8_t* to) {
  const auto* const from = reinterpret_cast<const uint8_t*>(request.address);
  const size_t length = request.length;
  return memory::guarded([=] { std::memcpy(to, from, length); });
}

}  // namespace

// What is given to the device at once.
struct WorkQueues::Chain {
  std::array<ibv_send_wr, kChain> works;
  std::array<Regions::Buffers, kChain> buffers;
  // Of inline SENDs: what libibverbs copies from must not be a mapping whose file may have been cut short.
  std::array<std::array<uint8_t, DeviceQueuePair::kInline>, kChain> copies;
};

// Under send_mutex_. What the device refuses ends the connection; it stays in the ring and is flushed.
void WorkQueues::give_sends() {
  while (send_carrier_ && !refusal_ && send_ring_.ungiven() != 0) {
    Chain chain;
    const size_t count = chain_sends(chain);
    if (count == 0) return refuse(why_not(send_ring_.to_give(0)));
    ibv_send_wr* bad = nullptr;
    const int error_number = send_carrier_->post_send(chain.works.data(), &bad);
    send_ring_.mark_given(taken(error_number, bad, chain.works.data(), count));
    if (error_number != 0)
      refuse(Error("CONNECTION_LOST", "the device took no request any more", error_number));
  }
}

// Under send_mutex_. WRITEs are of memory that is to be sent as it is when the device comes to it, and RAM
// may be written meanwhile: they are never copied.
bool WorkQueues::is_inline(const fabric::SendWorkRequest& request) const {
  return request.opcode == fabric::Opcode::kSend && send_carrier_ && request.length != 0 &&
         request.length <= send_carrier_->max_inline();
}

// How many: the first whose region is gone ends the chain.
size_t WorkQueues::chain_sends(Chain& chain) {
  const Regions::View regions(*regions_);
  size_t count = 0;
  for (; count < kChain && count < send_ring_.ungiven(); ++count) {
    const fabric::SendWorkRequest& request = send_ring_.to_give(count);
    Regions::Buffers& buffers = chain.buffers[count];
    const int pieces = regions.buffers(request.lkey, request.address, request.length, buffers);
    if (pieces < 0) break;
    ibv_send_wr& work = chain.works[count] = {};
    work.wr_id = send_ring_.given() + count;
    work.sg_list = buffers.data();
    work.num_sge = pieces;
    work.opcode = device_opcode(request.opcode);
    work.send_flags = request.signaled ? IBV_SEND_SIGNALED : 0;
    work.wr.rdma.remote_addr = request.remote_address;
    work.wr.rdma.rkey = request.rkey;
    uint8_t* const copy = chain.copies[count].data();
    if (is_inline(request) && copy_of(request, copy)) {
      buffers[0] = {reinterpret_cast<uint64_t>(copy), request.length, 0};
      work.num_sge = 1;
      work.send_flags |= IBV_SEND_INLINE;
    }
    if (count != 0) chain.works[count - 1].next = &work;
  }
  return count;
}

}  // namespace rdma_migrate::verbs
