#pragma once
/// The CPU: a device whose memory is the host's, and a backend that shares each operation among a pool's threads.

#include <memory>

#include "base/platform.h"
#include "base/thread_pool.h"
#include "ops/backend.h"
#include "ops/device.h"

namespace moe {

/// Host memory, in huge pages where the system gives them.
std::unique_ptr<Device> make_cpu_device();

/// The same bits for any number of threads. `isa` beyond what the processor has is refused; default: the best it has.
/// The pool must outlive the backend, and is used by one backend at a time.
std::unique_ptr<Backend> make_cpu_backend(ThreadPool& pool, Isa isa = best_isa());

}  // namespace moe
