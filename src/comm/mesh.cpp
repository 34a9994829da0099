#include "comm/mesh.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sys/socket.h>

#include <poll.h>

#include "base/error.h"
#include "base/progress_count.h"

namespace moe {
namespace {

/// Before the bytes of a message.
struct Header {
  uint64_t number, bytes;
  bool operator==(const Header&) const = default;
};
static_assert(sizeof(Header) == kHeaderBytes);

/// A message on its way in one direction.
class Transfer {
 public:
  /// Adds to `total` what it moves.
  Transfer(int descriptor, const Mesh::Part& part, uint64_t number, bool sends, int64_t& total)
      : descriptor_(descriptor),
        part_(part),
        expected_{number, part.bytes},
        header_(expected_),
        sends_(sends),
        total_(&total) {}

  int descriptor() const { return descriptor_; }
  int rank() const { return part_.rank; }
  short events() const { return sends_ ? POLLOUT : POLLIN; }
  bool done() const { return moved_ == sizeof header_ + part_.bytes; }

  /// Moves what can be moved now.
  void go_on() {
    while (!done()) {
      const bool head = moved_ < sizeof header_;
      char* const from = head ? reinterpret_cast<char*>(&header_) + moved_ : part_.data + (moved_ - sizeof header_);
      const size_t bytes = head ? sizeof header_ - moved_ : part_.bytes - (moved_ - sizeof header_);
      const ssize_t moved =
          sends_ ? ::send(descriptor_, from, bytes, MSG_NOSIGNAL) : ::recv(descriptor_, from, bytes, 0);
      if (moved < 0 && errno == EINTR) continue;
      if (moved < 0 && errno == EAGAIN) return;
      if (moved <= 0) throw LostPeer{part_.rank};
      moved_ += static_cast<size_t>(moved);
      *total_ += moved;
      note_progress();
      if (head && moved_ == sizeof header_ && header_ != expected_) {
        fail(
            "rank {} sent message {} of {} bytes, expected message {} of {}; this is a mistake in moe, please report "
            "it",
            part_.rank, header_.number, header_.bytes, expected_.number, expected_.bytes);
      }
    }
  }

 private:
  int descriptor_;
  Mesh::Part part_;
  Header expected_, header_;
  bool sends_;
  size_t moved_ = 0;
  int64_t* total_;
};

}  // namespace

void Mesh::exchange(const std::vector<Part>& sent, const std::vector<Part>& received) {
  std::vector<Transfer> transfers;
  const auto add = [&](const Part& part, bool sends) {
    const auto rank = static_cast<size_t>(part.rank);
    const uint64_t number = ++(sends ? sent_ : received_)[rank];
    transfers.emplace_back(sockets_[rank].descriptor(), part, number, sends, sends ? traffic_.sent : traffic_.received);
  };
  for (const Part& part : sent) add(part, true);
  for (const Part& part : received) add(part, false);
  std::vector<pollfd> waited;
  while (!transfers.empty()) {
    for (Transfer& transfer : transfers) transfer.go_on();
    std::erase_if(transfers, [](const Transfer& transfer) { return transfer.done(); });
    waited.clear();
    for (const Transfer& transfer : transfers) waited.push_back({transfer.descriptor(), transfer.events(), 0});
    waits_for_ = transfers.empty() ? -1 : transfers.front().rank();
    if (!waited.empty()) ::poll(waited.data(), waited.size(), -1);
  }
}

void Mesh::shut() const {
  for (const Socket& socket : sockets_) socket.shut();
}

}  // namespace moe
