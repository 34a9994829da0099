#pragma once
/// Clocks. Any thread.

#include <string>

namespace moe {

/// Seconds of a clock that never goes back, for differences of two calls.
double steady_seconds();
/// Seconds since 1970, of the system's clock.
double wall_seconds();
/// "2026-11-27T11:40:05Z"
std::string utc_text(double wall_seconds);
/// Seconds of processor time of all threads of this process. Other programs do not count.
double cpu_seconds();

}  // namespace moe
