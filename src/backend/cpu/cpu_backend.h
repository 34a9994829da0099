#pragma once
/// The CPU: a device whose memory is the host's, and a backend that divides each operation among the threads of a pool.

#include <memory>

#include "base/platform.h"
#include "base/thread_pool.h"
#include "ops/backend.h"
#include "ops/device.h"

namespace moe {

/// Host memory, in huge pages if the system gives them.
std::unique_ptr<Device> make_cpu_device();

/// Gives the same bits for any number of threads. An `isa` that the processor lacks is refused; the default is the best
/// one that it has. The pool must outlive the backend. One backend at a time may use it.
std::unique_ptr<Backend> make_cpu_backend(ThreadPool& pool, Isa isa = best_isa());

}  // namespace moe
