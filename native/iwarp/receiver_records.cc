// The protected stream: records off the socket, and what they open to into the buffer.
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "iwarp/receiver.h"

namespace rdma_migrate::iwarp {

void Receiver::protect(const fabric::Protection& protection) {
  if (phase_ != Phase::kHeader || in_message())
    throw Error("INVALID_ARGUMENT", "protect() in the middle of a message of " + peer_);
  RecordReader reader(protection, peer_);
  if (buffer_.available() != 0) {
    RxBuffer& stream = reader.stream();
    if (buffer_.available() > RxBuffer::kSize) stream.widen();
    std::memcpy(stream.room(), buffer_.data(), buffer_.available());
    stream.filled(buffer_.available());
  }
  // Nothing fails from here on.
  records_.emplace(std::move(reader));
  buffer_.clear();
  crc_on_ = false;
  messages_.held.store(false);
}

// What pull() is where the stream is records: what is parsed has been authenticated. Whatever has come of
// them is opened, at the latest in the turn that it has come in.
bool Receiver::pull_records() {
  flush();
  if (stores_) buffer_.widen();
  RxBuffer& stream = records_->stream();
  while (open_records() == 0) {
    if (!may_read()) return false;
    stream.widen();
    uint8_t* const room = stream.room();
    const size_t wanted = stream.free();
    const size_t received = note_received(recv(socket_, room, wanted, MSG_DONTWAIT), wanted);
    stream.filled(received);
    watch_.moved(received);
    if (received == 0) return false;
  }
  return true;
}

size_t Receiver::open_records() {
  size_t opened = 0;
  try {
    for (;;) {
      uint8_t* const room = buffer_.room();
      if (buffer_.free() < kMaxRecordInner) return opened;
      const size_t size = records_->open(room);
      if (size == 0) return opened;
      buffer_.filled(size);
      opened += size;
      if (size < kLeastCharge) budget_ -= std::min(budget_, kLeastCharge - size);
    }
  } catch (const WireFault&) {
    if (opened != 0) return opened;  // those are good; it comes again after them
    raw_header_size_ = 0;            // no segment's fault
    throw;
  }
}

}  // namespace rdma_migrate::iwarp
