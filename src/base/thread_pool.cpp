#include "base/thread_pool.h"

#include <algorithm>
#include <system_error>

#include "base/error.h"
#include "base/log.h"
#include "base/platform.h"
#include "base/thread_start.h"

namespace moe {
namespace {

// Operations follow each other within microseconds during a step, so waiting threads spin this long before they sleep.
constexpr int kSpins = 4000;

template <class Condition>
bool spin_until(Condition condition) {
  for (int i = 0; i < kSpins; ++i) {
    if (condition()) return true;
    cpu_relax();
  }
  return false;
}

std::atomic<int> starts_until_failure{-1};

void count_start() {
  if (starts_until_failure < 0) return;
  if (starts_until_failure == 0)
    throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again));
  --starts_until_failure;
}

int processors() { return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, kMostThreads); }

}  // namespace

void fail_thread_starts_after(int count) { starts_until_failure = count; }

std::future<void> run_beside(std::function<void()> task) {
  try {
    count_start();
    return std::async(std::launch::async, task);
  } catch (const std::system_error&) {
    return std::async(std::launch::deferred, std::move(task));
  }
}

ThreadPool::ThreadPool(int threads) {
  if (threads < 0 || threads > kMostThreads) {
    fail_usage("{} threads are requested; expected 0 (one per processor) to {}", threads, kMostThreads);
  }
  const int wanted = threads == 0 ? processors() : threads;
  threads_.reserve(static_cast<size_t>(wanted));
  try {
    for (int worker = 1; worker < wanted; ++worker) {
      count_start();
      threads_.emplace_back([this, worker] { worker_loop(worker); });
    }
  } catch (const std::exception& error) {  // of the system, or of an allocation for the thread
    const int reached = size();
    if (threads != 0) {
      stop_ = true;
      ++generation_;
      generation_.notify_all();
      for (auto& thread : threads_) thread.join();
      fail(
          "only {} of {} threads could be started: {}; use fewer (--threads), or raise the limit on processes or "
          "on memory",
          reached, wanted, error.what());
    }
    log_warning("only {} of {} threads could be started ({}); continuing with these", reached, wanted, error.what());
  }
}

ThreadPool::~ThreadPool() {
  stop_ = true;
  ++generation_;
  generation_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void ThreadPool::parallel_for(int64_t count, TaskRef task) {
  if (count <= 0) return;
  if (threads_.empty() || count == 1) {
    for (int64_t i = 0; i < count; ++i) task(i, 0);
    return;
  }
  task_ = &task;
  count_ = count;
  next_ = 0;
  error_ = nullptr;
  busy_ = static_cast<int>(threads_.size());
  ++generation_;
  generation_.notify_all();
  take_indices(0);
  while (!spin_until([&] { return busy_ == 0; })) {
    const int busy = busy_;
    if (busy != 0) busy_.wait(busy);
  }
  if (error_) std::rethrow_exception(error_);
}

void ThreadPool::take_indices(int worker) {
  for (;;) {
    const int64_t index = next_.fetch_add(1, std::memory_order_relaxed);
    if (index >= count_) return;
    try {
      (*task_)(index, worker);
    } catch (...) {
      std::lock_guard lock(error_mutex_);
      if (!error_) error_ = std::current_exception();
      next_ = count_;
    }
  }
}

void ThreadPool::worker_loop(int worker) {
  uint64_t seen = 0;
  for (;;) {
    if (!spin_until([&] { return generation_ != seen; })) generation_.wait(seen);
    if (generation_ == seen) continue;
    ++seen;
    if (stop_) return;
    take_indices(worker);
    if (--busy_ == 0) busy_.notify_all();
  }
}

}  // namespace moe
