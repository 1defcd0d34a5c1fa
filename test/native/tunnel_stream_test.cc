// A stream between two socket pairs over the software RNIC: its bytes, its ends, and what ends it early.
#include <doctest/doctest.h>
#include <sys/socket.h>

#include <future>
#include <memory>
#include <thread>

#include "support/endpoints.h"
#include "tunnel/stream.h"

using namespace rdma_migrate;
using namespace rdma_migrate::test;

namespace {

constexpr uint32_t kRing = 65'536;
using Outcome = std::optional<Error>;

// One end with its local socket; the test has the other side of that.
struct End {
  explicit End(std::shared_ptr<engine::Endpoint> endpoint) : stream(std::move(endpoint), kRing) {
    int fds[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    outside = UniqueFd(fds[0]);
    inside = UniqueFd(fds[1]);
  }
  void start(const tunnel::RemoteRing& peer, const tunnel::StreamLimits& limits) {
    stream.start(std::make_unique<tunnel::SocketPair>(inside.get(), inside.get()), peer, limits,
                 [this](const Error* reason) { ended.set_value(reason ? Outcome(*reason) : std::nullopt); });
    inside.reset();
  }
  Outcome outcome() {
    auto future = ended.get_future();
    REQUIRE(future.wait_for(std::chrono::seconds(60)) == std::future_status::ready);
    return future.get();
  }

  UniqueFd outside, inside;
  std::promise<Outcome> ended;
  tunnel::Stream stream;  // goes first: its end is told
};

struct Tunnelled {
  explicit Tunnelled(const tunnel::StreamLimits& limits = {})
      : source(std::shared_ptr<engine::Endpoint>(endpoints.source.get(), [](auto*) {})),
        destination(std::shared_ptr<engine::Endpoint>(endpoints.destination.get(), [](auto*) {})) {
    source.start(destination.stream.ring(), limits);
    destination.start(source.stream.ring(), limits);
  }
  EndpointPair endpoints;
  End source, destination;
};

std::string read_all(int fd) {
  std::string all;
  char buffer[10'000];
  for (;;) {
    const ssize_t got = read(fd, buffer, sizeof buffer);
    if (got <= 0) return all;
    all.append(buffer, static_cast<size_t>(got));
  }
}

void write_all(int fd, const std::string& text) {
  size_t at = 0;
  while (at < text.size()) {
    const ssize_t put = send(fd, text.data() + at, text.size() - at, MSG_NOSIGNAL);
    if (put <= 0) return;
    at += static_cast<size_t>(put);
  }
}

std::string pattern(size_t length) {
  std::string text(length, '\0');
  for (size_t i = 0; i < length; ++i) text[i] = static_cast<char>(i * 31 + i / 251);
  return text;
}

}  // namespace

TEST_CASE("bytes go both ways, many times the ring, and their ends") {
  Tunnelled pair;
  const std::string up = pattern(3'000'017), down = pattern(1'000'003);
  std::thread writer([&] {
    write_all(pair.source.outside.get(), up);
    shutdown(pair.source.outside.get(), SHUT_WR);
  });
  std::thread answerer([&] {
    write_all(pair.destination.outside.get(), down);
    shutdown(pair.destination.outside.get(), SHUT_WR);
  });
  std::string came_back;
  std::thread reader([&] { came_back = read_all(pair.source.outside.get()); });
  const bool same = read_all(pair.destination.outside.get()) == up;
  for (auto* thread : {&writer, &answerer, &reader}) thread->join();
  CHECK(same);
  CHECK(came_back == down);
  CHECK_FALSE(pair.source.outcome());
  CHECK_FALSE(pair.destination.outcome());
  CHECK(pair.source.stream.bytes_sent() == up.size());
  CHECK(pair.source.stream.bytes_received() == down.size());
}

TEST_CASE("a socket that goes away resets the stream at both ends") {
  Tunnelled pair;
  write_all(pair.source.outside.get(), "x");
  char byte;
  REQUIRE(read(pair.destination.outside.get(), &byte, 1) == 1);
  pair.destination.outside.reset();
  std::thread writer([&] { write_all(pair.source.outside.get(), pattern(2'000'000)); });
  const Outcome source = pair.source.outcome(), destination = pair.destination.outcome();
  writer.join();
  REQUIRE(source);
  REQUIRE(destination);
  CHECK(source->code() == "PEER_ERROR");
  CHECK(destination->code() == "PEER_ERROR");
}

TEST_CASE("a reset is told, and ends the thread") {
  Tunnelled pair;
  pair.source.stream.reset(Error("CANCELLED", "enough"));
  CHECK(pair.source.outcome()->code() == "CANCELLED");
  CHECK(pair.destination.outcome()->code() == "PEER_ERROR");
}

TEST_CASE("an end of the connection ends the stream") {
  Tunnelled pair;
  pair.endpoints.destination->close();
  CHECK(pair.source.outcome());
  CHECK(pair.destination.outcome());
}

TEST_CASE("an end of the connection under WRITEs is told by its own reason") {
  for (int i = 0; i < 10; ++i) {
    Tunnelled pair;
    std::thread writer([&] { write_all(pair.source.outside.get(), pattern(20'000'000)); });
    std::thread reader([&] {
      char buffer[10'000];
      for (int part = 0; part < 20 + 10 * i; ++part)
        if (read(pair.destination.outside.get(), buffer, sizeof buffer) <= 0) return;
      pair.endpoints.destination->close();
    });
    const Outcome source = pair.source.outcome();
    for (auto* thread : {&reader, &writer}) thread->join();
    REQUIRE(source);
    CHECK(source->code() == "CONNECTION_LOST");
  }
}

TEST_CASE("memory that an endpoint keeps lives until it is closed") {
  EndpointPair pair;
  auto kept = std::make_shared<int>(1);
  const std::weak_ptr<int> seen = kept;
  pair.source->keep(std::move(kept));
  CHECK_FALSE(seen.expired());
  pair.source->close();
  CHECK(seen.expired());
  CHECK_THROWS_AS(pair.source->keep(std::make_shared<int>(2)), Error);
}

TEST_CASE("a quiet stream lives, and one whose peer says nothing does not") {
  Tunnelled quiet({std::chrono::milliseconds(300), std::chrono::milliseconds(20)});
  std::this_thread::sleep_for(std::chrono::milliseconds(700));
  write_all(quiet.source.outside.get(), "x");
  char byte;
  CHECK(read(quiet.destination.outside.get(), &byte, 1) == 1);

  Tunnelled silent({std::chrono::milliseconds(300), std::chrono::hours(1)});
  CHECK(silent.source.outcome()->code().size() > 0);
}

TEST_CASE("a ring that can be none is refused, and a stream that was not begun can go") {
  EndpointPair endpoints;
  End end(std::shared_ptr<engine::Endpoint>(endpoints.source.get(), [](auto*) {}));
  CHECK_THROWS_AS(end.start({0, 1, 0}, {}), Error);
  CHECK_THROWS_AS(end.start({UINT64_MAX - 10, 1, kRing}, {}), Error);
}
