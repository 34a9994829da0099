#include "comm/rendezvous.h"

#include <optional>
#include <sstream>

#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "ops/communicator.h"

namespace moe {
namespace {

constexpr const char *kHello = "moe-rank", *kJoin = "moe-data", *kYes = "yes", *kNo = "no";
/// For a message of a rank that is there.
constexpr double kMessageSeconds = 10;

size_t index(int rank) { return static_cast<size_t>(rank); }

/// What a rank says first.
struct Hello {
  int rank = -1, size = 0, port = 0;
  std::string host;
};

std::string text_of(const Hello& hello) {
  return fmt::format("{} {} {} {} {}", kHello, hello.rank, hello.size, hello.port, hello.host);
}

/// Nothing if the connection is not of a rank.
std::optional<Hello> hello_from(const Socket& socket) {
  try {
    std::istringstream text(socket.receive_message(kMessageSeconds));
    std::string word;
    Hello hello;
    if (text >> word >> hello.rank >> hello.size >> hello.port >> hello.host && word == kHello) return hello;
  } catch (const Disconnected&) {}
  return std::nullopt;
}

std::string missing_ranks(const std::vector<Socket>& control) {
  std::vector<size_t> missing;
  for (size_t rank = 1; rank < control.size(); ++rank) {
    if (!control[rank]) missing.push_back(rank);
  }
  return fmt::format("{} {}", missing.size() == 1 ? "rank" : "ranks", fmt::join(missing, ", "));
}

/// Throws if a rank that this one knows has ended. Rank 0 knows all that have come, the others rank 0.
void check_ranks(const RankPlace& place, const Meeting& meeting) {
  place.check();
  for (size_t rank = 0; rank < meeting.control.size(); ++rank) {
    if (!meeting.control[rank] || !meeting.control[rank].ended()) continue;
    if (rank == 0) fail("rank 0 on {} ended before all ranks had met", meeting.hosts[0]);
    throw RankLost(static_cast<int>(rank), meeting.hosts[rank], 0,
                   "it was killed, or its connection broke, before all ranks had met");
  }
}

/// Takes the hello of every other rank. `tell` gets each rank's line for the others.
void gather_ranks(const RankPlace& place, const Listener& listener, Meeting& meeting, std::vector<std::string>& lines) {
  const double end = steady_seconds() + place.limit_seconds;
  for (int come = 1; come < place.size;) {
    Socket socket = listener.accept(end - steady_seconds(), [&] { check_ranks(place, meeting); });
    if (!socket) {
      fail("{} of {} did not come to {} port {} within {} s; start all ranks with the same MASTER_ADDR and MASTER_PORT",
           missing_ranks(meeting.control), place.size, host_name(), place.port, place.limit_seconds);
    }
    const std::optional<Hello> hello = hello_from(socket);
    if (!hello) continue;
    if (hello->size != place.size || hello->rank < 1 || hello->rank >= place.size) {
      fail("a process on {} came as rank {} of {}, expected a rank from 1 to {} of {}; start all with the same number",
           hello->host, hello->rank, hello->size, place.size - 1, place.size);
    }
    const size_t at = index(hello->rank);
    if (meeting.control[at]) {
      fail("two processes came as rank {}, on {} and on {}; give each a rank of its own", hello->rank,
           meeting.hosts[at], hello->host);
    }
    lines[at] = fmt::format("{} {} {}", socket.peer_address(), hello->port, hello->host);
    meeting.hosts[at] = hello->host;
    meeting.control[at] = std::move(socket);
    ++come;
  }
}

void send_quietly(const Socket& socket, const std::string& text) {
  try {
    socket.send_message(text, kMessageSeconds);
  } catch (const Disconnected&) {  // the watch will notice
  }
}

void lead(const RankPlace& place, const Listener& listener, Meeting& meeting) {
  std::vector<std::string> lines(index(place.size));
  lines[0] = fmt::format("{} {} {}", place.address, place.port, meeting.hosts[0]);
  try {
    gather_ranks(place, listener, meeting, lines);
  } catch (const Error& error) {
    for (const Socket& socket : meeting.control) {
      if (socket) send_quietly(socket, fmt::format("{} {}", kNo, error.what()));
    }
    throw;
  }
  for (const Socket& socket : meeting.control) {
    if (socket) send_quietly(socket, fmt::format("{}\n{}", kYes, fmt::join(lines, "\n")));
  }
}

struct Address {
  std::string ip;
  int port = 0;
};

/// Where every rank is, from rank 0.
std::vector<Address> follow(const RankPlace& place, const Listener& own, Meeting& meeting) {
  Socket control = connect_to(place.address, place.port, place.limit_seconds, place.check);
  if (!control) {
    fail(
        "rank {} found nobody at {} port {} within {} s; start rank 0, and give all ranks its MASTER_ADDR and "
        "MASTER_PORT",
        place.rank, place.address, place.port, place.limit_seconds);
  }
  std::string answer;
  try {
    control.send_message(
        text_of({.rank = place.rank, .size = place.size, .port = own.port(), .host = meeting.hosts[index(place.rank)]}),
        kMessageSeconds);
    answer = control.receive_message(place.limit_seconds + kMessageSeconds);
  } catch (const Disconnected&) {
    fail("rank {} came to {} port {}, but rank 0 ended or did not answer", place.rank, place.address, place.port);
  }
  std::istringstream text(answer);
  std::string word;
  std::getline(text, word);
  if (word != kYes) throw RankLost(0, place.address, 0, word.substr(std::min(word.size(), sizeof("no"))));
  std::vector<Address> addresses(index(place.size));
  for (int rank = 0; rank < place.size; ++rank) {
    text >> addresses[index(rank)].ip >> addresses[index(rank)].port >> meeting.hosts[index(rank)];
  }
  meeting.control[0] = std::move(control);
  addresses[0].ip = place.address;
  return addresses;
}

/// Each rank connects to those below it.
void connect_pairs(const RankPlace& place, const Listener& listener, const std::vector<Address>& addresses,
                   Meeting& meeting) {
  const auto lost = [&](int rank) {
    throw RankLost(rank, meeting.hosts[index(rank)], 0, "it did not connect to the others in time");
  };
  const auto check = [&] { check_ranks(place, meeting); };
  for (int rank = 0; rank < place.rank; ++rank) {
    const Address& address = addresses[index(rank)];
    Socket socket = connect_to(address.ip, address.port, place.limit_seconds, check);
    if (!socket) lost(rank);
    send_quietly(socket, fmt::format("{} {}", kJoin, place.rank));
    meeting.data[index(rank)] = std::move(socket);
  }
  const double end = steady_seconds() + place.limit_seconds;
  for (int rank = place.rank + 1; rank < place.size; ++rank) {
    while (!meeting.data[index(rank)]) {
      Socket socket = listener.accept(end - steady_seconds(), check);
      if (!socket) lost(rank);
      try {
        std::istringstream text(socket.receive_message(kMessageSeconds));
        std::string word;
        int from = -1;
        if (!(text >> word >> from) || word != kJoin || from <= place.rank || from >= place.size) continue;
        meeting.data[index(from)] = std::move(socket);
      } catch (const Disconnected&) {  // nobody of ours
      }
    }
  }
}

}  // namespace

std::string host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 && name[0] != '\0' ? name : "host";
}

Meeting meet(const RankPlace& place, const Listener* listener) {
  Meeting meeting;
  meeting.data.resize(index(place.size));
  meeting.control.resize(index(place.size));
  meeting.hosts.resize(index(place.size));
  meeting.hosts[index(place.rank)] = host_name();
  if (place.rank == 0) {
    lead(place, *listener, meeting);
    connect_pairs(place, *listener, {}, meeting);
  } else {
    const Listener own(0, place.address == RankPlace().address);
    const std::vector<Address> addresses = follow(place, own, meeting);
    connect_pairs(place, own, addresses, meeting);
  }
  return meeting;
}

}  // namespace moe
