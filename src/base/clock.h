#pragma once
/// Clocks for measurements. Use differences of two calls. Any thread.

namespace moe {

/// Seconds of a clock that never goes back.
double steady_seconds();
/// Seconds of processor time of all threads of this process. Other programs do not count.
double cpu_seconds();

}  // namespace moe
