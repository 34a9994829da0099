#pragma once
/// Threads that the system may refuse to start. ThreadPool and run_beside() start all threads of this program. A number
/// of workers that was asked for and cannot be started is an Error that names the number reached; one per processor
/// becomes as many as could be started, with a warning.

#include <functional>
#include <future>

namespace moe {

/// The most workers of a ThreadPool.
constexpr int kMostThreads = 1024;

/// Runs `task` on a thread of its own; on the thread that waits for the result, where the system refuses another.
std::future<void> run_beside(std::function<void()> task);

/// For tests: the system refuses threads after it started `count` more; a negative count ends that.
void fail_thread_starts_after(int count);

}  // namespace moe
