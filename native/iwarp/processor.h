// A processing thread of the software RNIC.
#pragma once

#include "fabric/processor.h"
#include "iwarp/io_section.h"

namespace rdma_migrate::iwarp {

using fabric::Clock;
using fabric::Served;

class Processor final : public fabric::Processor {
 public:
  // This thread's use of registered memory.
  IoSection section;
};

}  // namespace rdma_migrate::iwarp
