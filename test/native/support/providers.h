// The providers that the provider-neutral suite runs against.
#pragma once

#include <doctest/doctest.h>

#include <memory>
#include <vector>

#include "iwarp/provider.h"

namespace rdma_migrate::test {

inline std::vector<std::unique_ptr<fabric::Provider>> providers_under_test() {
  std::vector<std::unique_ptr<fabric::Provider>> providers;
  providers.push_back(iwarp::make_provider());
  return providers;
}

// Runs body for each provider, and for each with CRC off and on.
template <typename Body>
void for_each_provider(Body&& body) {
  for (std::unique_ptr<fabric::Provider>& provider : providers_under_test()) {
    for (bool crc : {false, true}) {
      CAPTURE(provider->name());
      CAPTURE(crc);
      fabric::ConnectionOptions options;
      options.crc = crc;
      body(*provider, options);
    }
  }
}

}  // namespace rdma_migrate::test
