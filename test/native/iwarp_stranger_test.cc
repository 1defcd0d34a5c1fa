// What is said of peers that are no RDMA migration.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include "iwarp/stranger.h"

using namespace rdma_migrate;
using namespace rdma_migrate::iwarp;

namespace {

std::span<const uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

std::string spoken(std::string_view text) { return spoken_by(bytes_of(text)); }

}  // namespace

TEST_CASE("names the protocols that come to a wrong port") {
  CHECK(spoken(std::string_view("QEVM\0\0\0\3", 8)).find("migrate tcp:") != std::string::npos);
  CHECK(spoken("GET / HTTP/1.0\r\n\r\n") == "HTTP");
  CHECK(spoken("PRI * HTTP/2.0\r\n") == "HTTP");
  CHECK(spoken(std::string_view("\x16\x03\x01\x02\x00\x01", 6)) == "TLS");
  CHECK(spoken("SSH-2.0-OpenSSH_9.2") == "SSH");
  CHECK(spoken("MPA ID Rep Frame").find("MPA reply") != std::string::npos);
  CHECK(spoken("MPA ID Req Frame\x10\x09").find("cannot be read") != std::string::npos);
  CHECK(spoken("MPA ID") == "part of an MPA request");
  CHECK(spoken("") == "nothing");
}

TEST_CASE("shows bytes of a peer as hexadecimal digits alone, and few of them") {
  const std::string text = spoken(std::string_view("\x1b[2J\x07\x00\xff evil text that goes on and on", 40));
  CHECK(text == "something that is no MPA request (it begins with 0x1b5b324a0700ff206576696c20746578)");
}

TEST_CASE("knows from the first wrong byte that no MPA request comes") {
  CHECK(may_be_mpa_request(bytes_of("")));
  CHECK(may_be_mpa_request(bytes_of("MPA ID Req")));
  CHECK(may_be_mpa_request(bytes_of("MPA ID Req Frame and what follows")));
  CHECK_FALSE(may_be_mpa_request(bytes_of("MPA ID Rep")));
  CHECK_FALSE(may_be_mpa_request(bytes_of("Q")));
}

TEST_CASE("reports one stranger a second, and counts the others") {
  StrangerReports reports;
  const StrangerReports::Clock::time_point start{};
  const auto at = [start](int milliseconds) { return start + std::chrono::milliseconds(milliseconds); };
  const auto first = reports.next("a:1", "HTTP", at(0));
  REQUIRE(first);
  CHECK(first->count == 1);
  CHECK_FALSE(reports.next("a:2", "HTTP", at(10)));
  CHECK_FALSE(reports.next("a:3", "HTTP", at(999)));
  const auto next = reports.next("a:4", "TLS", at(1000));
  REQUIRE(next);
  CHECK(next->address == "a:4");
  CHECK(next->spoke == "TLS");
  CHECK(next->count == 3);
}
