#include "cli/number_option.h"

#include <algorithm>
#include <charconv>
#include <type_traits>

#include "base/error.h"
#include "base/utf8.h"

namespace moe {
namespace {

template <class T>
bool parse(const std::string& text, T& value) {
  T parsed{};
  const char* const end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, parsed);
  if (result.ec != std::errc() || result.ptr != end) return false;
  value = parsed;
  return true;
}

template <class T, class Accepts>
CLI::Option* add(CLI::App& command, const std::string& name, T& value, const std::string& help, bool shown_default,
                 const std::string& range, const std::string& kind, Accepts accepts) {
  const auto take = [&value, name, range, kind, accepts](const std::string& text) {
    T parsed{};
    if (!parse(text, parsed) || !accepts(parsed)) {
      fail_usage("{} {}: expected {} {}", name, text.empty() ? "\"\"" : valid_utf8(text), kind, range);
    }
    value = parsed;
  };
  CLI::Option* option = command.add_option_function<std::string>(name, take, help);
  option->type_name(fmt::format("{} {}", std::is_integral_v<T> ? "INTEGER" : "NUMBER", range));
  if (shown_default) option->default_str(fmt::format("{}", value));
  return option;
}

}  // namespace

CLI::Option* add_number(CLI::App& command, const std::string& name, int64_t& value, WholeNumbers range,
                        const std::string& help, bool shown_default) {
  return add(command, name, value, help, shown_default, fmt::format("from {} to {}", range.least, range.most),
             "a whole number", [range](int64_t given) { return range.least <= given && given <= range.most; });
}

CLI::Option* add_number(CLI::App& command, const std::string& name, int32_t& value, WholeNumbers range,
                        const std::string& help, bool shown_default) {
  return add(command, name, value, help, shown_default, fmt::format("from {} to {}", range.least, range.most),
             "a whole number", [range](int32_t given) { return range.least <= given && given <= range.most; });
}

CLI::Option* add_number(CLI::App& command, const std::string& name, double& value, Numbers range,
                        const std::string& help, bool shown_default) {
  // NaN is in no range.
  return add(command, name, value, help, shown_default,
             range.above ? fmt::format("above {} and at most {}", range.least, range.most)
                         : fmt::format("from {} to {}", range.least, range.most),
             "a number", [range](double given) {
               return (range.above ? range.least < given : range.least <= given) && given <= range.most;
             });
}

CLI::Option* add_numbers(CLI::App& command, const std::string& name, std::vector<int64_t>& values, WholeNumbers range,
                         const std::string& help) {
  const std::string limits = fmt::format("from {} to {}", range.least, range.most);
  const auto take = [&values, name, range, limits](const std::string& text) {
    values.clear();
    for (size_t begin = 0; begin <= text.size();) {
      const size_t end = std::min(text.find(',', begin), text.size());
      const std::string part = text.substr(begin, end - begin);
      int64_t value = 0;
      if (!parse(part, value) || value < range.least || value > range.most) {
        fail_usage("{} {}: expected whole numbers {} with commas between them, found {}", name,
                   text.empty() ? "\"\"" : valid_utf8(text), limits, part.empty() ? "nothing" : valid_utf8(part));
      }
      values.push_back(value);
      begin = end + 1;
    }
  };
  return command.add_option_function<std::string>(name, take, help)->type_name("INTEGER " + limits);
}

CLI::Option* add_seed(CLI::App& command, const std::string& name, uint64_t& value, const std::string& help) {
  return add(command, name, value, help, true, fmt::format("from 0 to {}", UINT64_MAX), "a whole number",
             [](uint64_t) { return true; });
}

}  // namespace moe
