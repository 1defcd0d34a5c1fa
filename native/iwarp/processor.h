// A processing thread of the software RNIC. It serves many queue pairs in turn and waits for none of them,
// with one exception: bytes go straight into registered memory and out of it, and where a page of that is not
// there, as one of a mapped file whose disk hangs, the kernel lets the thread wait for it. Until the page
// comes, the other queue pairs of this thread wait too; new ones go to other threads (Engine::least_loaded),
// and listeners have a thread of their own.
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
