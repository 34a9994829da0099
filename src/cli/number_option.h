#pragma once
/// Options that take a number. The help of each option shows its range. Any other number is refused with the option's
/// name and exit status 2, before any work.

#include <cstdint>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

namespace moe {

/// Whole numbers from `least` to `most`.
struct WholeNumbers {
  int64_t least = 0;
  int64_t most = INT64_MAX;
};

/// Numbers from `least` to `most`; with `above`, `least` itself is excluded.
struct Numbers {
  double least = 0;
  double most = 0;
  bool above = false;
};

/// If the option is not given, its value does not change. The help shows this default, unless `shown_default` is false;
/// then the help text must describe it.
CLI::Option* add_number(CLI::App& command, const std::string& name, int64_t& value, WholeNumbers range,
                        const std::string& help, bool shown_default = true);
CLI::Option* add_number(CLI::App& command, const std::string& name, int32_t& value, WholeNumbers range,
                        const std::string& help, bool shown_default = true);
CLI::Option* add_number(CLI::App& command, const std::string& name, double& value, Numbers range,
                        const std::string& help, bool shown_default = true);
/// One number or several, with commas between them.
CLI::Option* add_numbers(CLI::App& command, const std::string& name, std::vector<int64_t>& values, WholeNumbers range,
                         const std::string& help);
/// Accepts all 64-bit numbers.
CLI::Option* add_seed(CLI::App& command, const std::string& name, uint64_t& value, const std::string& help);

}  // namespace moe
