// Bytes on their way into protected records. They are copied first, and sealed where the copy lies: the
// memory that they come from belongs to a running VM, which may change it meanwhile. So each byte of it is
// read once, by a plain copy that can be stopped where memory is not there, and what is encrypted stays as it
// is whatever OpenSSL reads twice.
#pragma once

#include <span>

#include "iwarp/record.h"
#include "memory/core_dumps.h"

namespace rdma_migrate::iwarp {

class RecordBatch {
 public:
  explicit RecordBatch(size_t capacity)
      : memory_(memory::private_pages((capacity / kMaxRecordContent + 2) * kMaxRecordSize)) {}

  size_t size() const { return size_; }
  // At most capacity, all together.
  void add(const void* data, size_t size);
  // Forgets what came after the first size bytes.
  void drop_to(size_t size) { size_ = size; }
  // Adds close_notify, as the last record.
  void end() { ends_ = true; }
  // Seals what has been added: whole records, all but the last one full. Empty from here on; the records stay
  // as they are until the next add().
  std::span<const uint8_t> seal(RecordWriter& writer);

 private:
  uint8_t* record(size_t number) { return memory_.get() + number * kMaxRecordSize; }

  const memory::PrivatePages memory_;  // records one after another
  size_t size_ = 0;
  bool ends_ = false;
};

}  // namespace rdma_migrate::iwarp
