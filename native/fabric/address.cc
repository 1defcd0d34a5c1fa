#include "fabric/address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>

#include <cerrno>
#include <cstring>

namespace rdma_migrate::fabric {
namespace {

std::string with_port(const std::string& host, uint16_t port) {
  bool bracket = host.find(':') != std::string::npos;
  return (bracket ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

Error lookup_error(const Endpoint& endpoint, int status) {
  int saved = errno;
  std::string why = status == EAI_SYSTEM ? std::strerror(saved) : gai_strerror(status);
  return Error("ADDRESS_NOT_FOUND",
               "no address found for host '" + endpoint.host + "' (port " + std::to_string(endpoint.port) +
                   "): " + why + ". Check the spelling and the name service, or give a numeric address");
}

}  // namespace

std::string host_of(const SocketAddress& address) {
  char host[NI_MAXHOST];
  if (address.length == 0 ||
      getnameinfo(address.get(), address.length, host, sizeof host, nullptr, 0, NI_NUMERICHOST) != 0) {
    return "";
  }
  return host;
}

std::string to_string(const SocketAddress& address) {
  const std::string host = host_of(address);
  return host.empty() ? "unknown" : with_port(host, port_of(address));
}

std::string to_string(const Endpoint& endpoint) {
  return with_port(endpoint.host.empty() ? "*" : endpoint.host, endpoint.port);
}

uint16_t port_of(const SocketAddress& address) {
  if (address.family() == AF_INET)
    return ntohs(reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_port);
  if (address.family() == AF_INET6)
    return ntohs(reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_port);
  return 0;
}

std::string local_address_of(int fd) {
  SocketAddress address;
  address.length = sizeof address.storage;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address.storage), &address.length) != 0) return "unknown";
  return to_string(address);
}

std::string peer_address_of(int fd) {
  SocketAddress address;
  address.length = sizeof address.storage;
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&address.storage), &address.length) != 0) return "unknown";
  return to_string(address);
}

Endpoint peer_of(int fd) {
  SocketAddress address;
  address.length = sizeof address.storage;
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&address.storage), &address.length) != 0) return {};
  return {host_of(address), port_of(address)};
}

std::vector<SocketAddress> resolve(const Endpoint& endpoint, Lookup lookup) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  if (lookup == Lookup::kPassive) hints.ai_flags |= AI_PASSIVE;
  if (lookup == Lookup::kNumericOnly) hints.ai_flags |= AI_NUMERICHOST;
  const char* host = endpoint.host.empty() ? nullptr : endpoint.host.c_str();
  addrinfo* found = nullptr;
  int status = getaddrinfo(host, std::to_string(endpoint.port).c_str(), &hints, &found);
  if (status == EAI_NONAME && lookup == Lookup::kNumericOnly) return {};
  if (status != 0) throw lookup_error(endpoint, status);
  std::vector<SocketAddress> addresses;
  for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next) {
    SocketAddress& address = addresses.emplace_back();
    std::memcpy(&address.storage, entry->ai_addr, entry->ai_addrlen);
    address.length = entry->ai_addrlen;
  }
  freeaddrinfo(found);
  return addresses;
}

Error listen_error(const std::string& address, int error_number, const std::string& otherwise) {
  switch (error_number) {
    case EADDRINUSE:
      return Error("ADDRESS_IN_USE",
                   "something listens on " + address + " already; choose another port or stop it",
                   error_number);
    case EACCES:
    case EPERM:
      return Error("PERMISSION_DENIED", "not allowed to listen on " + address + "; choose a port above 1023",
                   error_number);
    case EADDRNOTAVAIL:
      return Error("ADDRESS_NOT_FOUND",
                   address + " is no address of this host; listen on 0.0.0.0 or [::] for all", error_number);
    default:
      return Error("LISTEN_FAILED", otherwise, error_number);
  }
}

}  // namespace rdma_migrate::fabric
