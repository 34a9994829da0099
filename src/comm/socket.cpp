#include "comm/socket.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <thread>

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"

namespace moe {
namespace {

constexpr uint32_t kMostBytes = 1 << 20;
constexpr double kRetrySeconds = 0.1;

/// Waits until the descriptor is ready for `events`; false at the time `end`.
bool wait_for(int descriptor, short events, double end) {
  for (;;) {
    const double left = end - steady_seconds();
    pollfd waited{descriptor, events, 0};
    const int ready = ::poll(&waited, 1, static_cast<int>(std::max(0.0, 1000 * left)));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
    if (left <= 0) return false;
  }
}

void set_options(int descriptor) {
  const int on = 1;
  ::setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ::fcntl(descriptor, F_SETFL, ::fcntl(descriptor, F_GETFL) | O_NONBLOCK);
}

/// Sends or receives all bytes with `move`, one of the system's two calls.
template <class Move>
void move_all(int descriptor, short events, size_t bytes, double end, const Move& move) {
  for (size_t done = 0; done < bytes;) {
    const ssize_t moved = move(done);
    if (moved > 0) {
      done += static_cast<size_t>(moved);
    } else if (moved == 0 || (errno != EAGAIN && errno != EINTR) || !wait_for(descriptor, events, end)) {
      throw Disconnected();
    }
  }
}

}  // namespace

Socket& Socket::operator=(Socket&& other) noexcept {
  if (this != &other) {
    close();
    descriptor_ = std::exchange(other.descriptor_, -1);
  }
  return *this;
}

void Socket::close() {
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = -1;
}

void Socket::shut() const {
  if (descriptor_ >= 0) ::shutdown(descriptor_, SHUT_RDWR);
}

void Socket::send_message(const std::string& text, double seconds) const {
  MOE_CHECK(text.size() <= kMostBytes);
  const auto size = static_cast<uint32_t>(text.size());
  const std::string bytes = std::string(reinterpret_cast<const char*>(&size), sizeof size) + text;
  move_all(descriptor_, POLLOUT, bytes.size(), steady_seconds() + seconds,
           [&](size_t done) { return ::send(descriptor_, bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL); });
}

std::string Socket::receive_message(double seconds) const {
  const double end = steady_seconds() + seconds;
  const auto receive = [&](char* to, size_t bytes) {
    move_all(descriptor_, POLLIN, bytes, end,
             [&](size_t done) { return ::recv(descriptor_, to + done, bytes - done, 0); });
  };
  uint32_t size = 0;
  receive(reinterpret_cast<char*>(&size), sizeof size);
  if (size > kMostBytes) throw Disconnected();  // this is no rank
  std::string text(size, '\0');
  receive(text.data(), size);
  return text;
}

bool Socket::ended() const {
  char byte;
  const ssize_t waiting = ::recv(descriptor_, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return waiting == 0 || (waiting < 0 && errno != EAGAIN && errno != EINTR);
}

std::string Socket::peer_address() const {
  sockaddr_in address{};
  socklen_t length = sizeof address;
  char text[INET_ADDRSTRLEN] = {};
  if (::getpeername(descriptor_, reinterpret_cast<sockaddr*>(&address), &length) != 0) return "";
  ::inet_ntop(AF_INET, &address.sin_addr, text, sizeof text);
  return text;
}

Listener::Listener(int port, bool local) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  const int on = 1;
  ::setsockopt(socket_.descriptor(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(local ? INADDR_LOOPBACK : INADDR_ANY);
  if (!socket_ || ::bind(socket_.descriptor(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(socket_.descriptor(), SOMAXCONN) != 0) {
    fail("the ranks cannot meet at port {} of this machine: {}; set MASTER_PORT to a free port", port,
         std::strerror(errno));
  }
  set_options(socket_.descriptor());
}

int Listener::port() const {
  sockaddr_in address{};
  socklen_t length = sizeof address;
  ::getsockname(socket_.descriptor(), reinterpret_cast<sockaddr*>(&address), &length);
  return ntohs(address.sin_port);
}

Socket Listener::accept(double seconds, const std::function<void()>& check) const {
  for (const double end = steady_seconds() + seconds;;) {
    if (!wait_for(socket_.descriptor(), POLLIN, std::min(end, steady_seconds() + kRetrySeconds))) {
      check();
      if (steady_seconds() >= end) return {};
      continue;
    }
    Socket connection(::accept4(socket_.descriptor(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!connection) continue;  // it has gone again
    set_options(connection.descriptor());
    return connection;
  }
}

Socket connect_to(const std::string& host, int port, double seconds, const std::function<void()>& check) {
  const double end = steady_seconds() + seconds;
  for (;;) {
    addrinfo wanted{};
    wanted.ai_family = AF_INET;
    wanted.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (const int error = ::getaddrinfo(host.c_str(), fmt::format("{}", port).c_str(), &wanted, &found)) {
      if (error != EAI_AGAIN) fail("the host {} is not known: {}; check MASTER_ADDR", host, ::gai_strerror(error));
    } else {
      Socket connection(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      set_options(connection.descriptor());
      int status = ::connect(connection.descriptor(), found->ai_addr, found->ai_addrlen);
      ::freeaddrinfo(found);
      if (status != 0 && errno == EINPROGRESS && wait_for(connection.descriptor(), POLLOUT, end)) {
        socklen_t length = sizeof status;
        ::getsockopt(connection.descriptor(), SOL_SOCKET, SO_ERROR, &status, &length);
      }
      if (status == 0) return connection;
    }
    if (steady_seconds() >= end) return {};
    std::this_thread::sleep_for(std::chrono::duration<double>(kRetrySeconds));
    check();
  }
}

}  // namespace moe
