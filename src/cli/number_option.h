#pragma once
/// Options that take a number. Each states the numbers it takes: its help shows them, and anything else is refused by
/// the option's name with exit status 2, before any work.

#include <cstdint>
#include <string>

#include <CLI/CLI.hpp>

namespace moe {

/// Whole numbers from `least` to `most`.
struct WholeNumbers {
  int64_t least = 0;
  int64_t most = INT64_MAX;
};

/// Numbers from `least` to `most`; with `above`, `least` itself is not one of them.
struct Numbers {
  double least = 0;
  double most = 0;
  bool above = false;
};

/// The option's value stays as it is where the option is not given; the help shows it, unless `shown_default` is false:
/// then the help text says what happens.
CLI::Option* add_number(CLI::App& command, const std::string& name, int64_t& value, WholeNumbers range,
                        const std::string& help, bool shown_default = true);
CLI::Option* add_number(CLI::App& command, const std::string& name, int32_t& value, WholeNumbers range,
                        const std::string& help, bool shown_default = true);
CLI::Option* add_number(CLI::App& command, const std::string& name, double& value, Numbers range,
                        const std::string& help, bool shown_default = true);
/// Takes all numbers of 64 bits.
CLI::Option* add_seed(CLI::App& command, const std::string& name, uint64_t& value, const std::string& help);

}  // namespace moe
