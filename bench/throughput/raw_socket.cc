// What the machine can do without us: copies memory, or moves it once through a loopback TCP socket from one
// process to another, without framing. Prints seconds. Usage: raw_socket memcpy|socket BYTES
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

constexpr size_t kCallBytes = 1 << 20;  // larger calls are no faster on loopback
constexpr int kBufferBytes = 4 << 20;

void require(bool ok, const char* what) {
  if (ok) return;
  std::perror(what);
  std::exit(1);
}

// Touched, and random enough not to be zero.
uint8_t* memory(size_t bytes, uint8_t seed) {
  void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  require(mapped != MAP_FAILED, "mmap");
  auto* data = static_cast<uint8_t*>(mapped);
  for (size_t i = 0; i < bytes; i += 4096)
    std::memset(data + i, static_cast<int>(seed + (i >> 12)) | 1, 4096);
  return data;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

int set_up(int socket_fd) {
  const int on = 1;
  setsockopt(socket_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  setsockopt(socket_fd, SOL_SOCKET, SO_SNDBUF, &kBufferBytes, sizeof(kBufferBytes));
  setsockopt(socket_fd, SOL_SOCKET, SO_RCVBUF, &kBufferBytes, sizeof(kBufferBytes));
  return socket_fd;
}

void receive_all(int fd, uint8_t* data, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    const ssize_t got = recv(fd, data + done, bytes - done < kCallBytes ? bytes - done : kCallBytes, 0);
    require(got > 0, "recv");
    done += static_cast<size_t>(got);
  }
}

void send_all(int fd, const uint8_t* data, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    const ssize_t put = send(fd, data + done, bytes - done < kCallBytes ? bytes - done : kCallBytes, 0);
    require(put > 0, "send");
    done += static_cast<size_t>(put);
  }
}

// From the first byte until the receiver has answered that it holds the last one.
double through_socket(size_t bytes) {
  const int listener = set_up(socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  require(bind(listener, reinterpret_cast<sockaddr*>(&address), length) == 0, "bind");
  require(listen(listener, 1) == 0, "listen");
  require(getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length) == 0, "getsockname");
  uint8_t answer = 0;
  const pid_t child = fork();
  require(child >= 0, "fork");
  if (child == 0) {
    alarm(120);
    uint8_t* data = memory(bytes, 3);
    const int fd = accept(listener, nullptr, nullptr);
    require(fd >= 0, "accept");
    require(send(fd, &answer, 1, 0) == 1, "send");
    receive_all(fd, data, bytes);
    require(send(fd, &answer, 1, 0) == 1, "send");
    _exit(0);
  }
  uint8_t* data = memory(bytes, 7);
  const int fd = set_up(socket(AF_INET, SOCK_STREAM, 0));
  require(connect(fd, reinterpret_cast<sockaddr*>(&address), length) == 0, "connect");
  receive_all(fd, &answer, 1);
  const auto start = std::chrono::steady_clock::now();
  send_all(fd, data, bytes);
  receive_all(fd, &answer, 1);
  const double seconds = seconds_since(start);
  require(waitpid(child, nullptr, 0) == child, "waitpid");
  return seconds;
}

double through_memcpy(size_t bytes) {
  uint8_t* from = memory(bytes, 7);
  uint8_t* to = memory(bytes, 3);
  const auto start = std::chrono::steady_clock::now();
  std::memcpy(to, from, bytes);
  return seconds_since(start);
}

}  // namespace

int main(int argc, char** argv) {
  const size_t bytes = argc == 3 ? std::strtoull(argv[2], nullptr, 10) : 0;
  if (bytes == 0 || bytes % 4096 != 0) {
    std::fprintf(stderr, "usage: raw_socket memcpy|socket BYTES (a multiple of 4096)\n");
    return 2;
  }
  alarm(120);
  std::printf("%.6f\n", std::strcmp(argv[1], "memcpy") == 0 ? through_memcpy(bytes) : through_socket(bytes));
  return 0;
}
