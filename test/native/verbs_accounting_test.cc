// What the verbs provider reckons without a device: which completions are due, and what may be pinned.
#include <doctest/doctest.h>

#include "verbs/locked_memory.h"
#include "verbs/pieces.h"
#include "verbs/send_ring.h"

using namespace rdma_migrate;
using fabric::Opcode;
using fabric::Status;
using verbs::SendRing;

namespace {

fabric::SendWorkRequest request(uint64_t wr_id, bool signaled, Opcode opcode = Opcode::kRdmaWrite) {
  fabric::SendWorkRequest result;
  result.wr_id = wr_id;
  result.opcode = opcode;
  result.length = 100;
  result.signaled = signaled;
  return result;
}

void give(SendRing& ring, const fabric::SendWorkRequest& work) {
  ring.push(work);
  ring.mark_given();
}

std::vector<uint64_t> ids_of(const std::vector<fabric::Completion>& completions) {
  std::vector<uint64_t> ids;
  for (const fabric::Completion& completion : completions) ids.push_back(completion.wr_id);
  return ids;
}

std::string code_of(uint64_t length, const verbs::PinLimits& limits) {
  try {
    verbs::check_can_pin(length, limits);
  } catch (const Error& error) {
    return error.code() + ": " + error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("unsignaled requests hold their place until a signaled one after them completes") {
  SendRing ring(3);
  std::vector<fabric::Completion> out;
  give(ring, request(1, false));
  give(ring, request(2, false));
  give(ring, request(3, true));
  CHECK(ring.full());
  CHECK(ring.complete(2, Status::kSuccess, out) == 300);
  CHECK(ids_of(out) == std::vector<uint64_t>{3});
  CHECK_FALSE(ring.full());
  CHECK(ring.idle());
}

TEST_CASE("completions that a device gives out of order are reported in order") {
  SendRing ring(8);
  std::vector<fabric::Completion> out;
  give(ring, request(1, true, Opcode::kRdmaRead));
  give(ring, request(2, true));
  CHECK(ring.complete(1, Status::kSuccess, out) == 0);
  CHECK(out.empty());
  ring.complete(0, Status::kSuccess, out);
  CHECK(ids_of(out) == std::vector<uint64_t>{1, 2});
  CHECK(out[0].byte_len == 100);
}

TEST_CASE("a failed request is reported though it is unsignaled, and the rest is flushed") {
  SendRing ring(8);
  std::vector<fabric::Completion> out;
  for (uint64_t id = 1; id <= 4; ++id) give(ring, request(id, id == 4));
  ring.push(request(5, false));  // the device has not got it
  ring.complete(1, Status::kError, out);
  ring.flush(out, false);
  CHECK(ids_of(out) == std::vector<uint64_t>{2, 3, 4, 5});
  CHECK(out[0].status == Status::kError);
  for (size_t at = 1; at < out.size(); ++at) CHECK(out[at].status == Status::kFlushed);
  CHECK(ring.idle());
  CHECK_FALSE(ring.expects_completion());
}

TEST_CASE("a completion of what is not outstanding changes nothing") {
  SendRing ring(2);
  std::vector<fabric::Completion> out;
  CHECK(ring.complete(0, Status::kSuccess, out) == 0);
  give(ring, request(1, true));
  ring.complete(0, Status::kSuccess, out);
  CHECK(ring.complete(0, Status::kSuccess, out) == 0);
  CHECK(ring.complete(7, Status::kSuccess, out) == 0);
  CHECK(out.size() == 1);
}

TEST_CASE("more than the limit of locked memory is refused, with the bytes needed and the limit") {
  verbs::PinLimits limits{.pinned = 1 << 20,
                          .memlock = 8 << 20,
                          .may_ignore = false,
                          .memory = UINT64_MAX,
                          .memory_source = "RAM"};
  CHECK(code_of(7 << 20, limits) == "");
  const std::string refused = code_of((7 << 20) + 4096, limits);
  CHECK(refused.find("LOCKED_MEMORY_LIMIT") == 0);
  CHECK(refused.find("8392704 bytes") != std::string::npos);
  CHECK(refused.find("8388608 bytes") != std::string::npos);
  limits.may_ignore = true;
  CHECK(code_of(UINT64_MAX / 2, limits) == "");
  limits.may_ignore = false;
  CHECK(code_of(UINT64_MAX, limits).find("LOCKED_MEMORY_LIMIT") == 0);
}

TEST_CASE("memory to send from is registered in pieces that the device takes, 64 at most where it can") {
  constexpr uint64_t kMiB = 1 << 20;
  CHECK(verbs::piece_size(1, UINT64_MAX) == 64 * kMiB);
  CHECK(verbs::piece_size(4096 * kMiB, UINT64_MAX) == 64 * kMiB);
  CHECK(verbs::piece_size(4096 * kMiB + 1, UINT64_MAX) == 66 * kMiB);
  CHECK(verbs::piece_size(uint64_t{1} << 40, UINT64_MAX) == (uint64_t{1} << 34));
  CHECK(verbs::piece_size(uint64_t{1} << 40, uint64_t{1} << 31) == (uint64_t{1} << 31));
  CHECK(verbs::piece_size(1024 * kMiB, 5 * kMiB) == 4 * kMiB);
  CHECK(verbs::piece_size(1024 * kMiB, 4096) == 4096);
  CHECK(verbs::piece_size(UINT64_MAX, UINT64_MAX) >= UINT64_MAX / 64);
}

TEST_CASE("more than the machine or its cgroup has is refused, whoever asks") {
  const verbs::PinLimits limits{.pinned = 4096,
                                .memlock = UINT64_MAX,
                                .may_ignore = true,
                                .memory = 1 << 30,
                                .memory_source = "/x/memory.max"};
  CHECK(code_of((1 << 30) - 4096, limits) == "");
  CHECK(code_of(1 << 30, limits).find("/x/memory.max") != std::string::npos);
}
