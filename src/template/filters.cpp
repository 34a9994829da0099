#include "template/filters.h"

#include <unordered_map>

#include "base/error.h"

namespace moe::jinja {
namespace {

using Table = std::unordered_map<std::string_view, FilterFunction>;

const Table& table() {
  static const Table all = [] {
    Table made = {{"pprint", nullptr}, {"random", nullptr}, {"urlize", nullptr}, {"wordwrap", nullptr}};
    for (const auto& filters : {text_filters(), escape_filters(), list_filters(), choice_filters(), number_filters()}) {
      for (const Filter& filter : filters) made.emplace(filter.name, filter.function);
    }
    return made;
  }();
  return all;
}

}  // namespace

bool is_filter(std::string_view name) { return table().contains(name); }

Value apply_filter(std::string_view name, const Value& value, const Arguments& arguments) {
  spend(1);
  const auto found = table().find(name);
  if (found == table().end()) fail("there is no filter \"{}\"", name);
  if (found->second == nullptr) fail("the filter \"{}\" is not supported here", name);
  return found->second(value, arguments);
}

}  // namespace moe::jinja
