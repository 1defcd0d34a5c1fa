#include "iwarp/stranger.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "fabric/hex.h"

namespace rdma_migrate::iwarp {
namespace {

constexpr std::string_view kRequestKey = "MPA ID Req Frame";
constexpr std::string_view kReplyKey = "MPA ID Rep Frame";
constexpr size_t kShownBytes = 16;
constexpr std::chrono::seconds kBetweenReports{1};

struct Protocol {
  std::string_view prefix;
  const char* name;
};

constexpr std::array kProtocols = {
    Protocol{"QEVM", "QEMU's migration stream over TCP (migrate tcp:), and not rdma:"},
    Protocol{"GET ", "HTTP"},
    Protocol{"PUT ", "HTTP"},
    Protocol{"POST ", "HTTP"},
    Protocol{"HEAD ", "HTTP"},
    Protocol{"OPTIONS ", "HTTP"},
    Protocol{"CONNECT ", "HTTP"},
    Protocol{"PRI * HTTP/2", "HTTP"},
    Protocol{std::string_view("\x16\x03", 2), "TLS"},
    Protocol{"SSH-", "SSH"},
    Protocol{kReplyKey, "an MPA reply, where a request is expected"},
    Protocol{kRequestKey, "an MPA request that cannot be read or was not completed"},
};

std::string_view text_of(std::span<const uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

bool may_be_mpa_request(std::span<const uint8_t> bytes) {
  return text_of(bytes.first(std::min(bytes.size(), kRequestKey.size()))) ==
         kRequestKey.substr(0, std::min(bytes.size(), kRequestKey.size()));
}

std::string spoken_by(std::span<const uint8_t> bytes) {
  if (bytes.empty()) return "nothing";
  for (const Protocol& protocol : kProtocols) {
    if (text_of(bytes).starts_with(protocol.prefix)) return protocol.name;
  }
  if (may_be_mpa_request(bytes)) return "part of an MPA request";
  const auto shown = bytes.first(std::min(bytes.size(), kShownBytes));
  return "something that is no MPA request (it begins with 0x" + fabric::hex_of(shown) + ")";
}

std::optional<fabric::Stranger> StrangerReports::next(std::string address, std::string spoke,
                                                      Clock::time_point now) {
  if (count_ < UINT32_MAX) ++count_;
  if (last_ && now - *last_ < kBetweenReports) return std::nullopt;
  last_ = now;
  return fabric::Stranger{std::move(address), std::move(spoke), std::exchange(count_, 0)};
}

}  // namespace rdma_migrate::iwarp
