// The providers that the provider-neutral suite runs against: those that RDMA_MIGRATE_PROVIDER names, iwarp
// by default.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <vector>

#include "fabric/plugin.h"
#include "iwarp/provider.h"
#include "support/host.h"

namespace rdma_migrate::test {

inline std::vector<std::unique_ptr<fabric::Provider>> providers_under_test() {
  std::vector<std::unique_ptr<fabric::Provider>> providers;
  if (tests_provider("iwarp")) providers.push_back(iwarp::make_provider());
  if (tests_provider("verbs")) providers.push_back(fabric::load_device_provider(RDMA_MIGRATE_PLUGIN_FOLDER));
  if (providers.empty())
    throw std::runtime_error("RDMA_MIGRATE_PROVIDER names no provider: " + tested_providers());
  return providers;
}

// The software RNIC: what it does beyond what every device does can be checked.
inline bool is_software(const fabric::Provider& provider) { return provider.name() == "iwarp"; }

// Linux' siw driver: it refuses what it must, but does not tell its owner why a queue pair has ended.
inline bool is_siw(const fabric::QueuePair& queue_pair) {
  return queue_pair.info().detail.find("device siw") != std::string::npos;
}

// For what a provider cannot be asked to do.
inline void skip(const fabric::Provider& provider, const std::string& what) {
  MESSAGE(provider.name() << ": not run: " << what);
}

// The private data that was sent, as a provider may deliver it: devices may pad with zeros.
inline bool carries(const fabric::Bytes& delivered, const fabric::Bytes& sent) {
  if (delivered.size() < sent.size() || !std::equal(sent.begin(), sent.end(), delivered.begin()))
    return false;
  return std::all_of(delivered.begin() + static_cast<std::ptrdiff_t>(sent.size()), delivered.end(),
                     [](uint8_t byte) { return byte == 0; });
}

// Runs body for each provider; for the software RNIC with CRC off and on.
template <typename Body>
void for_each_provider(Body&& body) {
  for (std::unique_ptr<fabric::Provider>& provider : providers_under_test()) {
    for (bool crc : {false, true}) {
      if (crc && !is_software(*provider)) continue;
      CAPTURE(provider->name());
      CAPTURE(crc);
      fabric::QueuePairOptions options;
      options.crc = crc;
      body(*provider, options);
    }
  }
}

}  // namespace rdma_migrate::test
