// native_fuzz TARGET [--seed S] [--cases N | --seconds T | --case N] [--json]; without limit: its short run.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>

#include "driver.h"

using namespace rdma_migrate::fuzz;

namespace {

const std::map<std::string, std::function<std::unique_ptr<Target>()>> kTargets = {
    {"receiver", receiver_target},   {"connections", connections_target},
    {"handshake", handshake_target}, {"records", records_target},
    {"pages", pages_target},
};

int usage() {
  std::fprintf(stderr,
               "native_fuzz TARGET [--seed S] [--cases N | --seconds T | --case N] [--json]\nTARGET:");
  for (const auto& [name, make] : kTargets) std::fprintf(stderr, " %s", name.c_str());
  std::fprintf(stderr, "\n");
  return 2;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 2 || !kTargets.contains(arguments[1])) return usage();
  const std::unique_ptr<Target> target = kTargets.at(arguments[1])();
  Options options;
  bool limited = false;
  for (int at = 2; at < count; ++at) {
    const std::string name = arguments[at];
    if (name == "--json") {
      options.json = true;
      continue;
    }
    if (at + 1 == count) return usage();
    const char* value = arguments[++at];
    limited = limited || name != "--seed";
    if (name == "--seed") {
      options.seed = std::strtoull(value, nullptr, 10);
    } else if (name == "--cases") {
      options.cases = std::strtoull(value, nullptr, 10);
    } else if (name == "--seconds") {
      options.seconds = std::strtod(value, nullptr);
    } else if (name == "--case") {
      options.first = std::strtoull(value, nullptr, 10);
      options.cases = 1;
    } else {
      return usage();
    }
  }
  if (!limited) options.cases = target->short_run();
  return run(*target, options);
}
