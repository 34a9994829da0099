#pragma once
/// What a template may call without being given it: range, dict, namespace, cycler, joiner, raise_exception and
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

/// The function of that name, or nothing. `now` is the time that strftime_now tells; without one it is the clock's.
std::optional<Value> find_function(std::string_view name, std::optional<std::time_t> now);

/// Members of an object that may come to hold the object itself are dropped at the end of the rendering.
void forget_at_end(const std::shared_ptr<Object>& object);

}  // namespace moe::jinja
