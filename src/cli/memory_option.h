#pragma once

#include <cstdint>

#include <CLI/CLI.hpp>

#include "ops/device.h"
#include "train/run_memory.h"

namespace moe {

/// Declares `--memory-limit SIZE`: a number with KB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, TiB (of 1024).
/// `bytes` is 0 if it is not given.
void add_memory_option(CLI::App& command, int64_t& bytes);

/// What a device of at most `limit` bytes would say of itself; 0: no limit.
DeviceInfo limited(DeviceInfo info, int64_t limit);

/// Where a run computes, with a device as large as the limit says. What is planned for it is all that a run allocates.
Place limited_place(const Device& device, int64_t limit);

/// A GPU with `bytes` of memory, on a machine that is not known. Plans alone; the program needs no GPU for them.
Place gpu_place(int64_t bytes);

/// What may still be allocated on the device: what is free, or less if the limit, with all that is allocated already,
/// allows less. -1: not known.
int64_t free_bytes(const Device& device, int64_t limit);

}  // namespace moe
