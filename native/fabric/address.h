// Socket addresses: names to addresses and addresses to the text that messages and ConnectionInfo show.
#pragma once

#include <sys/socket.h>

#include <chrono>
#include <string>
#include <vector>

#include "fabric/fabric.h"

namespace rdma_migrate::fabric {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  int family() const { return storage.ss_family; }
};

// As an Endpoint has it: "127.0.0.1", "::1", "fe80::1%eth0". "" where there is no address.
std::string host_of(const SocketAddress& address);

// "127.0.0.1:4444", "[::1]:4444"
std::string to_string(const SocketAddress& address);
std::string to_string(const Endpoint& endpoint);

uint16_t port_of(const SocketAddress& address);

// The addresses of this socket's ends; "unknown" where the kernel gives none (the peer is gone).
std::string local_address_of(int fd);
std::string peer_address_of(int fd);
// To connect there again. host is "" where the kernel gives none.
Endpoint peer_of(int fd);

enum class Lookup {
  kActive,       // for connecting
  kPassive,      // for listening; an empty host is every address
  kNumericOnly,  // for connecting; never asks a name server, the result is empty where the host is a name
};

// All addresses of the endpoint, in getaddrinfo's order. Blocks as long as the system's resolver does, except
// with kNumericOnly. Throws Error: ADDRESS_NOT_FOUND.
std::vector<SocketAddress> resolve(const Endpoint& endpoint, Lookup lookup);

// open(address, left) of the first address with which it does not throw an Error; `left` counts the addresses
// from this one on. Throws the last one's Error.
template <class Open>
auto open_first(const std::vector<SocketAddress>& addresses, const Open& open) {
  for (size_t at = 0;; ++at) {
    try {
      return open(addresses[at], addresses.size() - at);
    } catch (const Error&) {
      if (at + 1 >= addresses.size()) throw;
    }
  }
}

// Part of the time until `deadline`, so that an address that does not answer leaves some for those after it.
inline std::chrono::steady_clock::time_point share_of_time(std::chrono::steady_clock::time_point deadline,
                                                           size_t left) {
  const auto now = std::chrono::steady_clock::now();
  return now + (deadline - now) / static_cast<int>(left);
}

// ADDRESS_IN_USE, PERMISSION_DENIED, ADDRESS_NOT_FOUND, or LISTEN_FAILED with `otherwise`.
Error listen_error(const std::string& address, int error_number, const std::string& otherwise);

}  // namespace rdma_migrate::fabric
