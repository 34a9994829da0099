#pragma once
/// TCP connections (IPv4) with limits of time. Errors of the system become Disconnected. One thread at a time.

#include <cstdint>
#include <functional>
#include <string>
#include <utility>

namespace moe {

/// The other side of a connection has gone, or did not do its part in time.
struct Disconnected {};

/// An open connection, or none.
class Socket {
 public:
  Socket() = default;
  explicit Socket(int descriptor) : descriptor_(descriptor) {}
  ~Socket() { close(); }
  Socket(Socket&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  Socket& operator=(Socket&& other) noexcept;

  explicit operator bool() const { return descriptor_ >= 0; }
  int descriptor() const { return descriptor_; }
  void close();
  /// Both sides read the end of the connection from now on. Any thread may call it.
  void shut() const;

  /// A message of up to 1 MB, whole, within `seconds`.
  void send_message(const std::string& text, double seconds) const;
  std::string receive_message(double seconds) const;
  /// True if the connection has ended and nothing is left to read.
  bool ended() const;
  /// The address of the other side: "10.0.0.7".
  std::string peer_address() const;

 private:
  int descriptor_ = -1;
};

/// A port where others can connect.
class Listener {
 public:
  /// On `port` (0: any free one) of this machine alone (`local`) or of all its addresses. Throws an Error if it is in
  /// use.
  Listener(int port, bool local);

  int port() const;
  /// The next connection; none if there is none within `seconds`. Meanwhile it calls `check` several times a second,
  /// which may throw.
  Socket accept(double seconds, const std::function<void()>& check) const;

 private:
  Socket socket_;
};

/// Connects, and tries again until `seconds` are over, as the other side may not listen yet. None if that fails. Throws
/// an Error if the name of the host is not known. Before each try but the first it calls `check`, which may throw.
Socket connect_to(const std::string& host, int port, double seconds, const std::function<void()>& check);

}  // namespace moe
