#pragma once
/// The functions that every template may call: range, dict, namespace, cycler, joiner, raise_exception and
/// strftime_now.

#include <ctime>
#include <optional>
#include <string_view>

#include "template/value.h"

namespace moe::jinja {

/// namespace(): members that a template may change.
struct Space : Object {
  bool member(std::string_view name, Value& out) override;
  std::string shown() const override;
  void forget() override { members.forget(); }
  Dict members;
};

/// The function of that name, or nothing. `now` is the time for strftime_now; without it, the clock's time.
std::optional<Value> find_function(std::string_view name, std::optional<std::time_t> now);

/// At the end of the rendering, drops the members of an object that may refer to the object itself.
void forget_at_end(const std::shared_ptr<Object>& object);

}  // namespace moe::jinja
