// What the machine can do without us. Prints what it took as JSON: {"seconds":1.25,"cpuSeconds":0.80}, the
// CPU time being that of both ends. Usage: native_peers KIND BYTES; main() has the kinds.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

constexpr size_t kCallBytes = 1 << 20;  // larger calls are no faster on loopback
constexpr int kBufferBytes = 4 << 20;
constexpr size_t kCacheHotBytes = 256 << 10;
constexpr unsigned kDeadlineSeconds = 300;

struct Taken {
  double seconds;
  double cpu_seconds;
};

void require(bool ok, const char* what) {
  if (ok) return;
  std::perror(what);
  std::exit(1);
}

size_t least(size_t one, size_t other) { return one < other ? one : other; }

// Touched, and random enough not to be zero.
uint8_t* memory(size_t bytes, uint8_t seed) {
  void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  require(mapped != MAP_FAILED, "mmap");
  auto* data = static_cast<uint8_t*>(mapped);
  for (size_t i = 0; i < bytes; i += 4096)
    std::memset(data + i, static_cast<int>(seed + (i >> 12)) | 1, 4096);
  return data;
}

// A memfd that nobody has touched: the memory of a destination.
int fresh_file(size_t bytes) {
  const int fd = memfd_create("native-peers", MFD_CLOEXEC);
  require(fd >= 0 && ftruncate(fd, static_cast<off_t>(bytes)) == 0, "memfd");
  return fd;
}

uint8_t* mapping_of(int fd, size_t bytes) {
  void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  require(mapped != MAP_FAILED, "mmap");
  return static_cast<uint8_t*>(mapped);
}

void write_at(int fd, const uint8_t* data, size_t bytes, size_t at) {
  for (size_t done = 0; done < bytes;) {
    const ssize_t put = pwrite(fd, data + done, bytes - done, static_cast<off_t>(at + done));
    require(put > 0, "pwrite");
    done += static_cast<size_t>(put);
  }
}

double cpu_seconds() {
  rusage used{};
  require(getrusage(RUSAGE_SELF, &used) == 0, "getrusage");
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

// Of this process, from its construction on.
class Meter {
 public:
  Taken taken() const {
    const auto now = std::chrono::steady_clock::now();
    return {std::chrono::duration<double>(now - start_).count(), cpu_seconds() - cpu_};
  }

 private:
  double cpu_ = cpu_seconds();
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

Taken through_memcpy(size_t bytes) {
  uint8_t* from = memory(bytes, 7);
  uint8_t* to = memory(bytes, 3);
  const Meter meter;
  std::memcpy(to, from, bytes);
  return meter.taken();
}

// First touch: what the system takes to give a destination its memory, whatever brings the bytes.
Taken first_touch(size_t bytes, bool by_pwrite) {
  const std::vector<uint8_t> hot(kCallBytes, 0x5a);
  const int fd = fresh_file(bytes);
  uint8_t* mapped = mapping_of(fd, bytes);
  const Meter meter;
  for (size_t at = 0; at < bytes; at += kCallBytes) {
    const size_t part = least(kCallBytes, bytes - at);
    if (by_pwrite)
      write_at(fd, hot.data(), part, at);
    else
      std::memcpy(mapped + at, hot.data(), part);
  }
  return meter.taken();
}

void tune(int socket_fd) {
  const int on = 1;
  setsockopt(socket_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  setsockopt(socket_fd, SOL_SOCKET, SO_SNDBUF, &kBufferBytes, sizeof(kBufferBytes));
  setsockopt(socket_fd, SOL_SOCKET, SO_RCVBUF, &kBufferBytes, sizeof(kBufferBytes));
}

int stream_socket() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  require(fd >= 0, "socket");
  tune(fd);
  return fd;
}

size_t receive_some(int fd, void* data, size_t bytes) {
  const ssize_t got = recv(fd, data, bytes, 0);
  require(got > 0, "recv");
  return static_cast<size_t>(got);
}

void receive_all(int fd, void* to, size_t bytes) {
  auto* data = static_cast<uint8_t*>(to);
  for (size_t done = 0; done < bytes;) done += receive_some(fd, data + done, least(bytes - done, kCallBytes));
}

void send_all(int fd, const void* from, size_t bytes) {
  const auto* data = static_cast<const uint8_t*>(from);
  for (size_t done = 0; done < bytes;) {
    const ssize_t put = send(fd, data + done, least(bytes - done, kCallBytes), 0);
    require(put > 0, "send");
    done += static_cast<size_t>(put);
  }
}

// From a small buffer that stays in the cache into a file that nobody has touched.
void receive_into_file(int fd, int file, size_t bytes) {
  std::vector<uint8_t> hot(kCacheHotBytes);
  for (size_t done = 0; done < bytes;) {
    size_t got = 0;
    const size_t wanted = least(hot.size(), bytes - done);
    while (got < wanted) got += receive_some(fd, hot.data() + got, wanted - got);
    write_at(file, hot.data(), got, done);
    done += got;
  }
}

enum class Into { kTouched, kFreshMapping, kFreshFile };

[[noreturn]] void receiver(int listener, size_t bytes, Into into) {
  alarm(kDeadlineSeconds);
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // whoever is interrupted leaves nobody behind
  const int file = into == Into::kTouched ? -1 : fresh_file(bytes);
  uint8_t* data = into == Into::kTouched ? memory(bytes, 3) : mapping_of(file, bytes);
  const int fd = accept(listener, nullptr, nullptr);
  require(fd >= 0, "accept");
  const uint8_t ready = 0;
  const Meter meter;
  send_all(fd, &ready, sizeof(ready));
  if (into == Into::kFreshFile)
    receive_into_file(fd, file, bytes);
  else
    receive_all(fd, data, bytes);
  const double cpu = meter.taken().cpu_seconds;
  send_all(fd, &cpu, sizeof(cpu));  // all is here
  _exit(0);
}

// Once through a loopback TCP socket from one process to another, without framing: from the first byte until
// the receiver has answered that it holds the last one.
Taken through_socket(size_t bytes, Into into) {
  const int listener = stream_socket();
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  require(bind(listener, reinterpret_cast<sockaddr*>(&address), length) == 0, "bind");
  require(listen(listener, 1) == 0, "listen");
  require(getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length) == 0, "getsockname");
  const pid_t child = fork();
  require(child >= 0, "fork");
  if (child == 0) receiver(listener, bytes, into);
  const uint8_t* data = memory(bytes, 7);
  const int fd = stream_socket();
  require(connect(fd, reinterpret_cast<sockaddr*>(&address), length) == 0, "connect");
  uint8_t ready = 0;
  receive_all(fd, &ready, sizeof(ready));
  double peers_cpu = 0;
  const Meter meter;
  send_all(fd, data, bytes);
  receive_all(fd, &peers_cpu, sizeof(peers_cpu));
  Taken taken = meter.taken();
  taken.cpu_seconds += peers_cpu;
  require(waitpid(child, nullptr, 0) == child, "waitpid");
  return taken;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string kind = argc == 3 ? argv[1] : "";
  const size_t bytes = argc == 3 ? std::strtoull(argv[2], nullptr, 10) : 0;
  alarm(kDeadlineSeconds);
  Taken taken{};
  if (bytes == 0 || bytes % 4096 != 0) {
    std::fprintf(stderr, "usage: native_peers KIND BYTES (a multiple of 4096)\n");
    return 2;
  } else if (kind == "memcpy") {
    taken = through_memcpy(bytes);
  } else if (kind == "touch-mapping" || kind == "touch-pwrite") {
    taken = first_touch(bytes, kind == "touch-pwrite");
  } else if (kind == "socket") {
    taken = through_socket(bytes, Into::kTouched);
  } else if (kind == "socket-mapping") {
    taken = through_socket(bytes, Into::kFreshMapping);
  } else if (kind == "socket-pwrite") {
    taken = through_socket(bytes, Into::kFreshFile);
  } else {
    std::fprintf(stderr, "native_peers: no kind '%s'\n", kind.c_str());
    return 2;
  }
  std::printf("{\"seconds\":%.6f,\"cpuSeconds\":%.6f}\n", taken.seconds, taken.cpu_seconds);
  return 0;
}
