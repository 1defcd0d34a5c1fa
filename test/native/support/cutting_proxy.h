// A TCP proxy that cuts each of its connections after so many bytes: at whichever byte of a frame that is,
// with a reset or in order, and with it what is on its way in its buffers.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <list>
#include <optional>
#include <stdexcept>
#include <thread>

#include "fabric/types.h"
#include "fd.h"

namespace rdma_migrate::test {

class CuttingProxy {
 public:
  struct Cut {
    size_t after = SIZE_MAX;  // bytes of both directions
    bool reset = false;
  };
  // next: of the next connection. Called on the proxy's thread.
  CuttingProxy(uint16_t to, std::function<Cut()> next)
      : to_(to), next_(std::move(next)), listener_(make_socket()) {
    sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    if (bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        listen(listener_.get(), 64) != 0 ||
        getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0)
      throw std::runtime_error("the proxy cannot listen");
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { run(); });
  }
  ~CuttingProxy() {
    stop_.store(true);
    thread_.join();
  }
  fabric::Endpoint endpoint() const { return {"127.0.0.1", port_}; }
  size_t cuts() const { return cuts_.load(); }
  // Every connection of now.
  void cut_all() { cut_all_.store(true); }

 private:
  struct Link {
    UniqueFd near;
    UniqueFd far;
    Cut cut;
    bool near_ended = false;
    bool far_ended = false;
  };
  static UniqueFd make_socket() {
    UniqueFd made(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!made) throw std::runtime_error("no socket for the proxy");
    return made;
  }
  static sockaddr_in loopback(uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
  }
  void run() {
    while (!stop_.load()) {
      std::vector<pollfd> entries{{listener_.get(), POLLIN, 0}};
      for (const Link& link : links_) {
        entries.push_back({link.near_ended ? -1 : link.near.get(), POLLIN, 0});
        entries.push_back({link.far_ended ? -1 : link.far.get(), POLLIN, 0});
      }
      poll(entries.data(), entries.size(), 2);
      if (cut_all_.exchange(false)) {
        cuts_ += links_.size();
        links_.clear();
        continue;
      }
      size_t at = 1;
      for (auto link = links_.begin(); link != links_.end(); at += 2) {
        const bool goes_on =
            (entries[at].revents == 0 || relay(*link, link->near, link->far, link->near_ended)) &&
            (entries[at + 1].revents == 0 || relay(*link, link->far, link->near, link->far_ended));
        link = goes_on ? std::next(link) : links_.erase(link);
      }
      if (entries[0].revents != 0) take();
    }
  }
  void take() {
    Link link{UniqueFd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)), make_socket(), next_()};
    const sockaddr_in address = loopback(to_);
    if (connect(link.far.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
      links_.push_back(std::move(link));
  }
  // False: the link is over.
  bool relay(Link& link, const UniqueFd& from, const UniqueFd& to, bool& ended) {
    uint8_t bytes[16 * 1024];
    const ssize_t got = recv(from.get(), bytes, std::min(sizeof bytes, link.cut.after), MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return true;
    if (got == 0) {
      ended = true;
      shutdown(to.get(), SHUT_WR);
      return !link.near_ended || !link.far_ended;
    }
    if (got > 0) {
      link.cut.after -= static_cast<size_t>(got);
      if (!send_all(to.get(), bytes, static_cast<size_t>(got))) return false;
      if (link.cut.after != 0) return true;
      ++cuts_;
      if (link.cut.reset) {
        linger hard{1, 0};
        setsockopt(link.near.get(), SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
        setsockopt(link.far.get(), SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
      }
    }
    return false;
  }
  // Both ends take what comes whatever they send: it does not wait for long.
  bool send_all(int to, const uint8_t* bytes, size_t size) {
    while (size != 0 && !stop_.load()) {
      const ssize_t sent = send(to, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent < 0 && errno == EAGAIN) {
        pollfd entry{to, POLLOUT, 0};
        poll(&entry, 1, 10);
        continue;
      }
      if (sent <= 0) return false;
      bytes += sent;
      size -= static_cast<size_t>(sent);
    }
    return size == 0;
  }

  const uint16_t to_;
  const std::function<Cut()> next_;
  UniqueFd listener_;
  uint16_t port_ = 0;
  std::list<Link> links_;  // the thread's
  std::atomic<bool> stop_{false};
  std::atomic<bool> cut_all_{false};
  std::atomic<size_t> cuts_{0};
  std::thread thread_;
};

}  // namespace rdma_migrate::test
