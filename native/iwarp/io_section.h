// A processing thread's use of registered memory: open only around system calls and copies, which wait for
// nothing but a page that memory does not have yet (a mapped file's comes from its disk), or that another
// thread has stored in the same file.
// Who takes a region away changes its table's generation first and then waits for the sections that are open
// on that table; who opens one looks at the generation inside. So no segment needs a lock.
#pragma once

#include <atomic>
#include <cstdint>

namespace rdma_migrate::iwarp {

class IoSection {
 public:
  // table: whose regions are about to be touched.
  void enter(const void* table) {
    table_.store(table, std::memory_order_relaxed);
    state_.fetch_add(1, std::memory_order_seq_cst);
  }
  void leave() { state_.fetch_add(1, std::memory_order_release); }
  // Changes whenever one is entered or left.
  uint64_t state() const { return state_.load(std::memory_order_relaxed); }
  static bool is_open_in(uint64_t state) { return (state & 1) != 0; }
  // Open on that table, now.
  bool is_open(const void* table) const {
    return (state_.load(std::memory_order_seq_cst) & 1) != 0 &&
           table_.load(std::memory_order_relaxed) == table;
  }
  // Returns when a section that was open on that table at the call has been left.
  void wait_until_left(const void* table) const;

 private:
  std::atomic<uint64_t> state_{0};  // odd: open
  std::atomic<const void*> table_{nullptr};
};

class OpenSection {
 public:
  OpenSection(IoSection& section, const void* table) : section_(section) { section_.enter(table); }
  ~OpenSection() { section_.leave(); }
  OpenSection(const OpenSection&) = delete;
  OpenSection& operator=(const OpenSection&) = delete;

 private:
  IoSection& section_;
};

}  // namespace rdma_migrate::iwarp
