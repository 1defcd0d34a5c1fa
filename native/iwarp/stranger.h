// A peer that is no RDMA migration: what it seems to speak, in words that are safe to print.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "fabric/fabric.h"

namespace rdma_migrate::iwarp {

// False as soon as the bytes cannot become an MPA request, so that nobody waits for the rest of a header.
bool may_be_mpa_request(std::span<const uint8_t> bytes);

// What those first bytes of a connection are. None of them is in the text but as hexadecimal digits, 16 bytes
// of them at most.
std::string spoken_by(std::span<const uint8_t> bytes);

// Holds reports back that come faster than one a second, so that a flood of strangers is no flood of reports.
class StrangerReports {
 public:
  using Clock = std::chrono::steady_clock;

  // What to report now, if anything: this stranger, and how many came since the last report.
  std::optional<fabric::Stranger> next(std::string address, std::string spoke, Clock::time_point now);

 private:
  std::optional<Clock::time_point> last_;
  uint32_t count_ = 0;
};

}  // namespace rdma_migrate::iwarp
