// How the stream becomes a protected one, and how that ends.
#include <utility>

#include "iwarp/transmitter.h"

namespace rdma_migrate::iwarp {

bool Transmitter::is_idle() const {
  return !blocked_ && !job_ && !failure_ && messages_.read_jobs.empty() && messages_.log.empty() &&
         messages_.send_queue.drained();
}

void Transmitter::protect(RecordWriter writer) noexcept {
  records_.emplace(std::move(writer));
  crc_ = false;
}

bool Transmitter::say_end() {
  if ((!records_ && !messages_.log.on()) || end_ == End::kSaid) return true;
  end_ = End::kDue;
  return false;
}

bool Transmitter::fill_last() {
  if (end_ == End::kDue && messages_.log.on()) append_control_end();
  if (end_ == End::kDue && records_) batch_->append_end();
  end_ = End::kSaid;
  return !batch_->empty();
}

}  // namespace rdma_migrate::iwarp
