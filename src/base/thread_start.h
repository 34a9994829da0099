#pragma once
/// Starting threads, which the system may refuse. ThreadPool and run_beside() start all threads of this program. If a
/// requested number of workers cannot be started, an Error names the number reached. If one worker per processor was
/// requested, the pool uses those that could be started and warns.

#include <functional>
#include <future>

namespace moe {

/// The largest number of workers in a ThreadPool.
constexpr int kMostThreads = 1024;

/// Runs `task` on a thread of its own. If the system refuses the thread, the task runs on the thread that waits for the
/// result.
std::future<void> run_beside(std::function<void()> task);

/// For tests: the system refuses threads after `count` more have started. A negative count turns this off.
void fail_thread_starts_after(int count);

}  // namespace moe
