// Socket addresses: names to addresses and addresses to the text that messages and ConnectionInfo show.
#pragma once

#include <sys/socket.h>

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

// "127.0.0.1:4444", "[::1]:4444"
std::string to_string(const SocketAddress& address);
std::string to_string(const Endpoint& endpoint);

uint16_t port_of(const SocketAddress& address);

// The addresses of this socket's ends; "unknown" where the kernel gives none (the peer is gone).
std::string local_address_of(int fd);
std::string peer_address_of(int fd);

enum class Lookup {
  kActive,       // for connecting
  kPassive,      // for listening; an empty host is every address
  kNumericOnly,  // for connecting; never asks a name server, the result is empty where the host is a name
};

// All addresses of the endpoint, in getaddrinfo's order. Blocks as long as the system's resolver does, except
// with kNumericOnly. Throws Error: ADDRESS_NOT_FOUND.
std::vector<SocketAddress> resolve(const Endpoint& endpoint, Lookup lookup);

}  // namespace rdma_migrate::fabric
