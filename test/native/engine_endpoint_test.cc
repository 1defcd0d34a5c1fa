// An endpoint over a connection that does what the test says: what its observer is told, and of which ends.
#include <doctest/doctest.h>

#include <memory>
#include <optional>
#include <string>

#include "engine/endpoint.h"

namespace rdma_migrate::engine {
namespace {

constexpr uint32_t kSendQueue = 512;

class ScriptedRegion final : public fabric::MemoryRegion {
 public:
  uint64_t address() const override { return 0; }
  uint64_t length() const override { return 0; }
  uint32_t lkey() const override { return 1; }
  uint32_t rkey() const override { return 0; }
};

enum class Refusal { kNone, kRegistration, kReceive };

// Ends as the providers' connections do: with close(), and closed by its destructor.
class ScriptedConnection final : public fabric::Connection {
 public:
  ScriptedConnection(fabric::ConnectionEvents& events, Refusal refusal)
      : events_(events), refusal_(refusal) {}
  ~ScriptedConnection() override { close(); }

  std::unique_ptr<fabric::MemoryRegion> register_memory(uint64_t, uint64_t, unsigned) override {
    if (refusal_ == Refusal::kRegistration) throw Error("LOCKED_MEMORY_LIMIT", "scripted");
    return std::make_unique<ScriptedRegion>();
  }
  bool post_recv(const fabric::RecvWorkRequest&) override {
    if (refusal_ == Refusal::kReceive) throw Error("CONNECT_FAILED", "scripted");
    return true;
  }
  void close() override {
    if (std::exchange(closed_, true)) return;
    events_.on_closed(nullptr);
  }
  void revoke_remote_access() override {}
  bool pins_memory() const override { return false; }
  void connect(std::span<const uint8_t>) override {}
  void accept(std::span<const uint8_t>) override {}
  void reject(std::span<const uint8_t>) override {}
  bool post_send(const fabric::SendWorkRequest&) override { return true; }
  void disconnect() override {}
  fabric::ConnectionInfo info() const override { return {}; }
  const fabric::Counters& counters() const override { return counters_; }

 private:
  fabric::ConnectionEvents& events_;
  const Refusal refusal_;
  bool closed_ = false;
  fabric::Counters counters_;
};

struct Observer final : EndpointObserver {
  void established(fabric::Bytes) override {}
  void message_arrived() override {}
  void message_sent(uint64_t, bool) override {}
  void closed(std::optional<Error>) override { ++ends; }
  int ends = 0;
};

// The code of the error that its constructor throws.
std::string refused_code(Observer& observer, Refusal refusal) {
  const auto make = [&](fabric::ConnectionEvents& events) {
    return std::make_unique<ScriptedConnection>(events, refusal);
  };
  try {
    Endpoint endpoint(make, kSendQueue, observer);
    return "";
  } catch (const Error& error) {
    return error.code();
  }
}

TEST_CASE("an observer is told once that its endpoint has ended") {
  Observer observer;
  CHECK(refused_code(observer, Refusal::kNone).empty());
  CHECK(observer.ends == 1);
}

TEST_CASE("an observer hears nothing of an endpoint that could not be made") {
  Observer observer;
  CHECK(refused_code(observer, Refusal::kRegistration) == "LOCKED_MEMORY_LIMIT");
  CHECK(observer.ends == 0);
  CHECK(refused_code(observer, Refusal::kReceive) == "CONNECT_FAILED");
  CHECK(observer.ends == 0);
}

}  // namespace
}  // namespace rdma_migrate::engine
