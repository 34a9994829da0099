#pragma once
/// Amounts for people.

#include <cstdint>
#include <string>

#include "base/units.h"

namespace moe {

std::string gib_text(int64_t bytes);    ///< "1.25 GiB"
std::string mib_text(int64_t bytes);    ///< "54.0 MiB"
std::string bytes_text(int64_t bytes);  ///< "1.25 GiB", "54.0 MiB" or "3.1 KiB"
std::string count_text(int64_t count);  ///< "14.23M"
std::string flops_text(double flops);   ///< "18.72 TFLOP"

}  // namespace moe
