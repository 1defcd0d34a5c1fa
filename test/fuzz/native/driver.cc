#include "driver.h"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>

// Of the sanitizers' run time, where the build has one.
// What is freed is kept for a while, to find who uses it still: little enough that growth can be seen.
extern "C" const char* __asan_default_options() __attribute__((visibility("default")));
extern "C" const char* __asan_default_options() { return "quarantine_size_mb=16"; }
extern "C" void __sanitizer_set_death_callback(void (*callback)()) __attribute__((weak));

namespace rdma_migrate::fuzz {
namespace {

using Clock = std::chrono::steady_clock;

std::atomic<bool> stop{false};
std::atomic<uint64_t> current{0};
std::atomic<uint64_t> seed_of_run{0};
char name_of_run[64];

// After so many findings more say little.
constexpr size_t kMostFindings = 20;
// Of the resident set: allocators and sanitizers keep some.
constexpr uint64_t kMostGrowth = 64ull << 20;

void on_signal(int) { stop.store(true); }

// The process dies, by a sanitizer or an abort: says of which case.
void tell_case() {
  char text[200];
  const int size =
      std::snprintf(text, sizeof text, "DIED in %s --seed %llu --case %llu\n", name_of_run,
                    static_cast<unsigned long long>(seed_of_run), static_cast<unsigned long long>(current));
  (void)!write(STDERR_FILENO, text, static_cast<size_t>(size));
}

void on_abort(int) {
  tell_case();
  std::signal(SIGABRT, SIG_DFL);
  std::raise(SIGABRT);
}

uint64_t resident() {
  std::ifstream file("/proc/self/statm");
  uint64_t size = 0, pages = 0;
  file >> size >> pages;
  return pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

// Ends the process when one case takes too long.
class Watchdog {
 public:
  explicit Watchdog(int seconds) : thread_([this, seconds] { watch(seconds); }) {}
  ~Watchdog() {
    done_.store(true);
    thread_.join();
  }

 private:
  void watch(int seconds) {
    uint64_t seen = UINT64_MAX;
    Clock::time_point since = Clock::now();
    while (!done_.load()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      if (current.load() != seen) {
        seen = current.load();
        since = Clock::now();
      } else if (Clock::now() - since > std::chrono::seconds(seconds)) {
        std::fprintf(stderr, "HANG: a case has not ended within %d s\n", seconds);
        tell_case();
        _exit(3);
      }
    }
  }
  std::atomic<bool> done_{false};
  std::thread thread_;
};

struct Found {
  int64_t in_case;  // -1: in no single one
  std::string message;
};

struct Outcome {
  uint64_t cases = 0;
  uint64_t frames = 0;
  double seconds = 0;
  int64_t grown = -1;  // -1: too short a run to say
  Hits hits;
  std::vector<Found> findings;
};

std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char letter : text) {
    if (letter == '"' || letter == '\\') result += '\\';
    result += static_cast<unsigned char>(letter) < 0x20 ? ' ' : letter;
  }
  return result + '"';
}

void print_json(const Target& target, const Options& options, const Outcome& outcome) {
  std::ostringstream text;
  text << "{\"name\":" << quoted(target.name()) << ",\"seed\":" << options.seed
       << ",\"cases\":" << outcome.cases << ",\"frames\":" << outcome.frames
       << ",\"seconds\":" << outcome.seconds << ",\"grown\":" << outcome.grown << ",\"hits\":{";
  const char* comma = "";
  for (const auto& [what, count] : outcome.hits) {
    text << comma << quoted(what) << ":" << count;
    comma = ",";
  }
  text << "},\"findings\":[";
  comma = "";
  for (const Found& found : outcome.findings) {
    text << comma << "{\"case\":" << found.in_case << ",\"message\":" << quoted(found.message) << "}";
    comma = ",";
  }
  std::printf("%s]}\n", text.str().c_str());
}

void print_text(const Target& target, const Options& options, const Outcome& outcome) {
  std::printf("%s: seed %llu, %llu cases, %llu frames in %.1f s (%.0f frames/s), grown by %lld KiB\n",
              target.name().c_str(), static_cast<unsigned long long>(options.seed),
              static_cast<unsigned long long>(outcome.cases), static_cast<unsigned long long>(outcome.frames),
              outcome.seconds, static_cast<double>(outcome.frames) / outcome.seconds,
              static_cast<long long>(outcome.grown < 0 ? -1 : outcome.grown / 1024));
  for (const auto& [what, count] : outcome.hits)
    std::printf("%10llu  %s\n", static_cast<unsigned long long>(count), what.c_str());
  for (const Found& found : outcome.findings)
    std::printf("FINDING %s --seed %llu --case %lld: %s\n", target.name().c_str(),
                static_cast<unsigned long long>(options.seed), static_cast<long long>(found.in_case),
                found.message.c_str());
}

void play_one(Target& target, const Options& options, uint64_t index, Outcome& outcome) {
  current.store(index);
  Random random = Random::of_case(options.seed, target.name(), index);
  const auto found = [&](const std::string& what) {
    outcome.findings.push_back({static_cast<int64_t>(index), what});
  };
  try {
    outcome.frames += target.play(random, outcome.hits);
  } catch (const Error& error) {
    found(error.code() + ": " + error.what());
  } catch (const std::exception& error) {
    found(error.what());
  }
  ++outcome.cases;
}

}  // namespace

int run(Target& target, const Options& options) {
  std::snprintf(name_of_run, sizeof name_of_run, "%s", target.name().c_str());
  seed_of_run.store(options.seed);
  if (__sanitizer_set_death_callback != nullptr) __sanitizer_set_death_callback(tell_case);
  std::signal(SIGABRT, on_abort);
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
  std::fprintf(stderr, "%s: seed %llu\n", name_of_run, static_cast<unsigned long long>(options.seed));
  Watchdog watchdog(options.hang_seconds);
  Outcome outcome;
  uint64_t warm = 0;
  const Clock::time_point began = Clock::now();
  const auto passed = [&] { return std::chrono::duration<double>(Clock::now() - began).count(); };
  while (outcome.cases < options.cases && passed() < options.seconds && !stop.load()) {
    play_one(target, options, options.first + outcome.cases, outcome);
    if (outcome.cases == options.warm_up) warm = resident();
    if (outcome.findings.size() >= kMostFindings) break;
  }
  outcome.seconds = passed();
  if (outcome.cases > 5 * options.warm_up) {
    const uint64_t now = resident();
    outcome.grown = now > warm ? static_cast<int64_t>(now - warm) : 0;
    if (now > warm + kMostGrowth)
      outcome.findings.push_back({-1, "memory has grown by " + std::to_string(outcome.grown) + " bytes"});
  }
  if (outcome.cases >= target.short_run()) {
    for (const std::string& what : target.reaches())
      if (outcome.hits[what] == 0) outcome.findings.push_back({-1, "never reached: " + what});
  }
  options.json ? print_json(target, options, outcome) : print_text(target, options, outcome);
  std::fflush(stdout);
  return outcome.findings.empty() ? 0 : 1;
}

}  // namespace rdma_migrate::fuzz
