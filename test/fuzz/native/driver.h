// Plays the cases of the native fuzzers: seeds, counters, a watchdog, and what the process has grown by.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "random.h"

namespace rdma_migrate::fuzz {

// The product broke its word.
struct Finding : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// How often something was reached.
using Hits = std::map<std::string, uint64_t>;

class Target {
 public:
  virtual ~Target() = default;
  virtual std::string name() const = 0;
  // What must have been reached after short_run() cases.
  virtual std::vector<std::string> reaches() const = 0;
  virtual uint64_t short_run() const { return 5000; }
  // Plays one case and gives the number of frames (records) that it fed. Whatever it throws is a finding.
  virtual uint64_t play(Random& random, Hits& hits) = 0;
};

struct Options {
  uint64_t seed = 1;
  uint64_t first = 0;
  uint64_t cases = UINT64_MAX;
  double seconds = 1e18;
  bool json = false;
  // Cases until memory counts as warm; no case takes longer than the limit.
  uint64_t warm_up = 2000;
  int hang_seconds = 30;
};

// 0: nothing was found. 1: something was. The process ends with 3 when a case does not end. SIGINT and
// SIGTERM make the case in hand the last one.
int run(Target& target, const Options& options);

std::unique_ptr<Target> receiver_target();
std::unique_ptr<Target> connections_target();
std::unique_ptr<Target> handshake_target();
std::unique_ptr<Target> records_target();
std::unique_ptr<Target> pages_target();

}  // namespace rdma_migrate::fuzz
