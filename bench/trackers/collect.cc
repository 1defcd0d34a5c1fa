// What finding written pages costs, without a migration around it. Usage:
//   collect KIND GIB TOUCHED_MIB DIRTY ROUNDS   a tracker: async, fault-thread, log or hash
//   collect bitmap GIB 0 DIRTY ROUNDS           a bitmap alone: collect from a log, count, iterate, clear
// Prints a line of JSON: milliseconds, the median of the rounds, and CPU milliseconds for each collect; or
// `missing`, why this machine has no such tracker. Ends with 1 if a tracker finds other pages than were
// written.
#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "dirty/bitmap_log.h"
#include "dirty/hash.h"
#include "dirty/protect_async.h"
#include "dirty/protect_sync.h"

namespace {

using rdma_migrate::memory::Bitmap;
using rdma_migrate::memory::Mapping;
namespace dirty = rdma_migrate::dirty;
using Clock = std::chrono::steady_clock;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kPiece = uint64_t{2} << 20;

struct Options {
  std::string kind;
  uint64_t bytes, touched, dirty, rounds;
};

double cpu_ms() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  const auto ms = [](const timeval& t) { return 1e3 * double(t.tv_sec) + 1e-3 * double(t.tv_usec); };
  return ms(used.ru_utime) + ms(used.ru_stime);
}

double took(const std::function<void()>& work) {
  const auto began = Clock::now();
  work();
  return std::chrono::duration<double, std::milli>(Clock::now() - began).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

class Figures {
 public:
  void add(const char* name, double ms) { values_[name].push_back(ms); }
  void print() const {
    const char* separator = "{";
    for (const auto& [name, values] : values_) {
      std::printf("%s\"%s\":%.4f", separator, name.c_str(), median(values));
      separator = ",";
    }
    std::puts("}");
  }

 private:
  std::map<std::string, std::vector<double>> values_;
};

// Pages spread evenly over what is in use: pieces of 2 MiB, spread evenly over all.
struct Memory {
  explicit Memory(const Options& options)
      : ram(Mapping::memfd("ram", options.bytes)),
        pieces(std::max<uint64_t>(1, options.touched / kPiece)),
        distance(ram->length() / pieces / kPage * kPage) {
    if (options.touched == 0) return;
    for (uint64_t page = 0; page < pages(); ++page) *at(page) = static_cast<uint8_t>(page % 255 + 1);
  }
  uint64_t pages() const { return pieces * (kPiece / kPage); }
  uint64_t number(uint64_t page) const {
    return page / (kPiece / kPage) * (distance / kPage) + page % (kPiece / kPage);
  }
  volatile uint8_t* at(uint64_t page) const { return ram->data() + number(page) * kPage; }

  std::shared_ptr<Mapping> ram;
  uint64_t pieces, distance;
};

uint64_t* log_words(const std::shared_ptr<Mapping>& log) { return reinterpret_cast<uint64_t*>(log->data()); }

void mark(uint64_t* words, uint64_t page) {
  std::atomic_ref<uint64_t>(words[page / 64]).fetch_or(uint64_t{1} << page % 64, std::memory_order_release);
}

uint64_t log_bytes(uint64_t pages) { return (pages / 8 + kPage - 1) / kPage * kPage + kPage; }

dirty::DirtyLog log_of(const std::shared_ptr<Mapping>& memory) {
  dirty::DirtyLog log;
  log.fd = memory->file().get();
  log.log_page_size = kPage;
  return log;
}

std::unique_ptr<dirty::Tracker> make(const Options& options, const Memory& memory,
                                     const std::shared_ptr<Mapping>& log) {
  if (options.kind == "async") return std::make_unique<dirty::AsyncProtectTracker>(dirty::Blocks{memory.ram});
  if (options.kind == "fault-thread")
    return std::make_unique<dirty::FaultThreadTracker>(dirty::Blocks{memory.ram});
  if (options.kind == "hash") return std::make_unique<dirty::HashTracker>(dirty::Blocks{memory.ram}, 0);
  if (options.kind == "log")
    return std::make_unique<dirty::BitmapTracker>(dirty::Blocks{memory.ram}, std::vector{log_of(log)});
  std::fprintf(stderr, "no tracker '%s'\n", options.kind.c_str());
  std::exit(2);
}

void require(uint64_t found, uint64_t expected, const char* what) {
  if (found == expected) return;
  std::fprintf(stderr, "%s: %llu pages, expected %llu\n", what, static_cast<unsigned long long>(found),
               static_cast<unsigned long long>(expected));
  std::exit(1);
}

void track(const Options& options) {
  const Memory memory(options);
  const uint64_t pages = options.bytes / kPage;
  const auto log = Mapping::memfd("log", log_bytes(pages));
  const auto bitmap = std::make_shared<Bitmap>(pages);
  const std::vector bitmaps{bitmap};
  const auto tracker = make(options, memory, log);
  const uint64_t written = std::min(options.dirty, memory.pages());
  Figures figures;
  try {
    figures.add("start", took([&] { tracker->start(); }));
  } catch (const rdma_migrate::Error& error) {
    if (error.code() != "TRACKER_UNAVAILABLE") throw;
    std::printf("{\"missing\":\"%s\"}\n", error.what());
    return;
  }
  tracker->collect(bitmaps);  // a hash tracker's first learns what there is
  for (uint64_t round = 0; round < options.rounds; ++round) {
    bitmap->clear_range(0, pages);
    uint64_t found = 0;
    figures.add("idle", took([&] { found = tracker->collect(bitmaps); }));
    // A hash tracker knows nothing as sent here: what is not zero is found each time.
    const bool hash = options.kind == "hash";
    if (!hash) require(found, 0, "nothing was written");
    for (uint64_t i = 0; i < written; ++i) {
      const uint64_t page = i * (memory.pages() / written);
      *memory.at(page) = static_cast<uint8_t>(*memory.at(page) % 255 + 1);
      if (options.kind == "log") mark(log_words(log), memory.number(page));
    }
    const double before = cpu_ms();
    figures.add("collect", took([&] { found = tracker->collect(bitmaps); }));
    figures.add("cpu", cpu_ms() - before);
    if (!hash) require(found, written, "after writing");
  }
  tracker->stop();
  figures.print();
}

void go_over(const Bitmap& bitmap, uint64_t expected) {
  uint64_t seen = 0;
  for (uint64_t page = 0; (page = bitmap.next_set(page, bitmap.pages())) < bitmap.pages();) {
    const uint64_t stop = bitmap.next_clear(page, bitmap.pages());
    seen += stop - page;
    page = stop;
  }
  require(seen, expected, "iterating");
}

void bitmap_alone(const Options& options) {
  const uint64_t pages = options.bytes / kPage;
  // Addresses alone: a log says what was written.
  void* reserved =
      mmap(nullptr, options.bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) {
    std::perror("mmap");
    std::exit(1);
  }
  const auto ram = Mapping::caller(reinterpret_cast<uint64_t>(reserved), options.bytes);
  const auto log = Mapping::memfd("log", log_bytes(pages));
  const auto bitmap = std::make_shared<Bitmap>(pages);
  const std::vector bitmaps{bitmap};
  dirty::BitmapTracker tracker({ram}, {log_of(log)});
  tracker.start();
  // As after a first round of all RAM: no word is untouched memory.
  for (uint64_t page = 0; page < pages; page += 64) mark(log_words(log), page);
  bitmap->set_range(0, pages);
  tracker.collect(bitmaps);
  bitmap->clear_range(0, pages);
  const uint64_t distance = std::max<uint64_t>(1, pages / options.dirty);
  Figures figures;
  for (uint64_t round = 0; round < options.rounds; ++round) {
    for (uint64_t i = 0; i < options.dirty; ++i) mark(log_words(log), i * distance);
    const double before = cpu_ms();
    figures.add("collect", took([&] { require(tracker.collect(bitmaps), options.dirty, "collect"); }));
    figures.add("count", took([&] { require(bitmap->count(), options.dirty, "count"); }));
    figures.add("iterate", took([&] { go_over(*bitmap, options.dirty); }));
    figures.add("clear", took([&] { bitmap->clear_range(0, pages); }));
    figures.add("cpu", cpu_ms() - before);
    require(bitmap->count(), 0, "clearing");
  }
  figures.print();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) {
    std::fputs("usage: collect KIND GIB TOUCHED_MIB DIRTY ROUNDS\n", stderr);
    return 2;
  }
  const auto number = [&](int at) { return std::strtoull(argv[at], nullptr, 10); };
  const Options options{argv[1], number(2) << 30, number(3) << 20, std::max(number(4), 1ULL),
                        std::max(number(5), 1ULL)};
  if (options.touched > options.bytes) {
    std::fputs("more is in use than there is\n", stderr);
    return 2;
  }
  try {
    options.kind == "bitmap" ? bitmap_alone(options) : track(options);
  } catch (const rdma_migrate::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
