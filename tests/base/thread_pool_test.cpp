#include "base/thread_pool.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <limits>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/thread_start.h"

namespace moe {
namespace {

TEST(ThreadPool, CallsEachIndexOnceForAnyNumberOfThreadsAndIndices) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.size(), threads);
    for (const int64_t count : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> calls(static_cast<size_t>(count));
      pool.parallel_for(count, [&](int64_t index, int worker) {
        EXPECT_GE(worker, 0);
        EXPECT_LT(worker, threads);
        ++calls[static_cast<size_t>(index)];
      });
      for (const auto& value : calls) EXPECT_EQ(value, 1);
    }
  }
}

TEST(ThreadPool, ZeroThreadsMeansOnePerProcessor) {
  EXPECT_EQ(ThreadPool(0).size(), std::max(1, static_cast<int>(std::thread::hardware_concurrency())));
}

TEST(ThreadPool, AWorkerNumberIsNeverInTwoTasksAtOnce) {
  ThreadPool pool(4);
  std::vector<std::atomic<int>> inside(4);
  pool.parallel_for(2000, [&](int64_t, int worker) {
    EXPECT_EQ(inside[static_cast<size_t>(worker)].fetch_add(1), 0);
    inside[static_cast<size_t>(worker)].fetch_sub(1);
  });
}

TEST(ThreadPool, ManySmallLoopsInARowLoseNothing) {
  // More threads than processors make loops slow, and their interleavings rare.
  for (const auto& [threads, loops] : {std::pair(2, 5000), std::pair(4, 1000)}) {
    ThreadPool pool(threads);
    int64_t total = 0;
    for (int loop = 0; loop < loops; ++loop) {
      std::atomic<int64_t> sum{0};
      pool.parallel_for(3, [&](int64_t index, int) { sum += index + 1; });
      total += sum;
    }
    EXPECT_EQ(total, loops * 6);
  }
}

TEST(ThreadPool, WakesWorkersThatFellAsleep) {
  ThreadPool pool(3);
  for (int loop = 0; loop < 20; ++loop) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    std::atomic<int> calls{0};
    pool.parallel_for(10, [&](int64_t, int) { ++calls; });
    ASSERT_EQ(calls, 10);
  }
}

TEST(ThreadPool, EveryThreadTakesPartInALoop) {
  constexpr int kThreads = 3;
  ThreadPool pool(kThreads);
  std::mutex mutex;
  std::condition_variable arrived;
  std::set<int> workers;
  // Each task waits for the others, so that the loop ends only if as many threads take part as there are tasks.
  pool.parallel_for(kThreads, [&](int64_t, int worker) {
    std::unique_lock lock(mutex);
    workers.insert(worker);
    arrived.notify_all();
    arrived.wait_for(lock, std::chrono::seconds(120), [&] { return workers.size() == kThreads; });
  });
  EXPECT_EQ(workers, (std::set<int>{0, 1, 2}));
}

/// The system refuses threads after `count` more, until the end of a scope.
struct RefusedThreads {
  explicit RefusedThreads(int count) { fail_thread_starts_after(count); }
  ~RefusedThreads() { fail_thread_starts_after(-1); }
};

TEST(ThreadPool, AnAskedForNumberThatCannotBeStartedIsAnErrorWithTheNumberReached) {
  for (const int granted : {0, 1, 5}) {
    const RefusedThreads refused(granted);
    std::string message;
    try {
      const ThreadPool pool(8);
    } catch (const Error& error) {
      message = error.what();
    }
    EXPECT_NE(message.find(fmt::format("only {} of 8 threads", granted + 1)), std::string::npos) << message;
  }
  EXPECT_EQ(ThreadPool(8).size(), 8);
}

TEST(ThreadPool, OnePerProcessorBecomesAsManyAsCanBeStarted) {
  const RefusedThreads refused(0);
  ThreadPool pool(0);
  EXPECT_EQ(pool.size(), 1);
  std::atomic<int> calls{0};
  pool.parallel_for(10, [&](int64_t, int) { ++calls; });
  EXPECT_EQ(calls, 10);
}

TEST(ThreadPool, RefusesNumbersOutOfRange) {
  for (const int threads : {-1, -5, kMostThreads + 1, std::numeric_limits<int>::max()}) {
    EXPECT_THROW(ThreadPool{threads}, UsageError) << threads;
  }
}

TEST(RunBeside, RunsTheTaskAndRethrowsWithAndWithoutAThread) {
  for (const int granted : {-1, 0}) {
    const RefusedThreads refused(granted);
    int value = 0;
    run_beside([&] { value = 7; }).get();
    EXPECT_EQ(value, 7);
    EXPECT_THROW(run_beside([] { throw std::runtime_error("task"); }).get(), std::runtime_error);
  }
}

TEST(ThreadPool, RethrowsAnExceptionOfATaskAndStaysUsable) {
  for (const int threads : {1, 4}) {
    ThreadPool pool(threads);
    for (int loop = 0; loop < 200; ++loop) {
      std::string caught;
      try {
        pool.parallel_for(50, [&](int64_t index, int) {
          if (index == loop % 50) throw std::runtime_error("task " + std::to_string(index));
        });
      } catch (const std::runtime_error& error) {
        caught = error.what();
      }
      ASSERT_EQ(caught, "task " + std::to_string(loop % 50));
      std::atomic<int> calls{0};
      pool.parallel_for(50, [&](int64_t, int) { ++calls; });
      ASSERT_EQ(calls, 50);
    }
  }
}

TEST(ThreadPool, OneOfSeveralExceptionsIsRethrown) {
  ThreadPool pool(4);
  EXPECT_THROW(pool.parallel_for(1000, [](int64_t, int) { throw std::runtime_error("all fail"); }), std::runtime_error);
}

TEST(ThreadPool, AnExceptionStopsTheLoopEarly) {
  ThreadPool pool(2);
  std::atomic<int64_t> calls{0};
  const auto loop = [&] {
    pool.parallel_for(1'000'000'000'000, [&](int64_t, int) {
      ++calls;
      throw std::runtime_error("stop");
    });
  };
  EXPECT_THROW(loop(), std::runtime_error);
  EXPECT_LE(calls, 4);
}

}  // namespace
}  // namespace moe
