#pragma once
/// Ranks as threads of a test.

#include <exception>
#include <functional>
#include <thread>
#include <vector>

#include "comm/socket_communicator.h"
#include "comm/thread_communicator.h"

namespace moe::test {

/// Runs `work` once for each rank, all at the same time, with what `communicator_of(rank, use)` lends to `use`. Like
/// the program, a rank that throws tells the others. Returns what each rank threw.
template <class Lend>
std::vector<std::exception_ptr> try_each(int size, const std::function<void(Communicator&)>& work, const Lend& lend) {
  std::vector<std::exception_ptr> thrown(static_cast<size_t>(size));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        lend(rank, [&](Communicator& communicator) {
          try {
            work(communicator);
          } catch (const std::exception& error) {
            communicator.abort(error.what());
            throw;
          }
        });
      } catch (const std::exception&) {
        thrown[static_cast<size_t>(rank)] = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return thrown;
}

inline std::vector<std::exception_ptr> try_on_ranks(int size, const std::function<void(Communicator&)>& work) {
  ThreadRanks ranks(size);
  return try_each(size, work, [&](int rank, const auto& use) { use(ranks.rank(rank)); });
}

/// Ranks that talk over TCP, as processes do.
inline std::vector<std::exception_ptr> try_on_sockets(int size, const std::function<void(Communicator&)>& work,
                                                      const Watch::Options& options = {}) {
  const Listener listener(0, true);
  return try_each(size, work, [&](int rank, const auto& use) {
    SocketCommunicator communicator({.rank = rank, .size = size, .port = listener.port()},
                                    rank == 0 ? &listener : nullptr, options);
    use(communicator);
  });
}

/// Rethrows the first thing that is not the loss of another rank, else the first.
inline void rethrow_first(const std::vector<std::exception_ptr>& thrown) {
  std::exception_ptr lost;
  for (const std::exception_ptr& one : thrown) {
    if (!one) continue;
    try {
      std::rethrow_exception(one);
    } catch (const RankLost&) {
      if (!lost) lost = one;
    }
  }
  if (lost) std::rethrow_exception(lost);
}

/// Runs `work` on ranks that are threads.
inline void on_ranks(int size, const std::function<void(Communicator&)>& work) {
  rethrow_first(try_on_ranks(size, work));
}

}  // namespace moe::test
