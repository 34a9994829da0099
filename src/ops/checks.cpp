#include "ops/checks.h"

#include <cstdint>

namespace moe {
namespace {

std::string text(const View& view) { return fmt::format("{} {}", name(view.dtype), view.shape.text()); }

/// Removes the next blank-separated word from the front of `words` and returns it.
std::string_view next_word(std::string_view& words) {
  const size_t end = words.find(' ');
  const std::string_view word = words.substr(0, end);
  words = end == std::string_view::npos ? std::string_view{} : words.substr(end + 1);
  return word;
}

int count_words(std::string_view words) {
  int count = 0;
  while (!words.empty()) {
    next_word(words);
    ++count;
  }
  return count;
}

bool is_number(std::string_view word) { return word.find_first_not_of("0123456789") == std::string_view::npos; }

int64_t number(std::string_view digits) {
  int64_t value = 0;
  for (const char digit : digits) value = value * 10 + (digit - '0');
  return value;
}

}  // namespace

void Checker::add(const Argument& argument) {
  MOE_CHECK(argument_count_ < arguments_.size());
  arguments_[argument_count_++] = argument;
}

void Checker::fail_with(const std::string& message) const { fail("{}: {}", op_name_, message); }

void Checker::check_fields() const {
  for (size_t i = 0; i < argument_count_; ++i) {
    const Argument& argument = arguments_[i];
    if (*argument.view) {
      check_layout(argument);
    } else if (!argument.optional) {
      fail_with(fmt::format("{} is absent, expected a tensor", argument.name));
    }
  }
  for (size_t i = 0; i < argument_count_; ++i) {
    for (size_t j = 0; j < argument_count_; ++j) {
      const bool once = arguments_[j].role == Role::in || i < j;  // each pair of outputs is seen from both sides
      if (i != j && once && arguments_[i].role != Role::in) check_aliasing(arguments_[i], arguments_[j]);
    }
  }
}

void Checker::check_layout(const Argument& argument) const {
  const View& view = *argument.view;
  const StorageType& type = storage(view.dtype);
  if (reinterpret_cast<uintptr_t>(view.data) % static_cast<uintptr_t>(type.alignment) != 0) {
    fail_with(fmt::format("{}, {}, is at address {}, expected a multiple of its element's {} bytes", argument.name,
                          text(view), fmt::ptr(view.data), type.alignment));
  }
  if (view.elements() == 0) return;
  for (int axis = 0; axis < view.rank() && type.block > 1; ++axis) {
    const bool last = axis == view.rank() - 1;
    const int64_t step = last ? view.shape[axis] : view.stride[static_cast<size_t>(axis)];
    if (step % type.block == 0) continue;
    fail_with(fmt::format("{}, {}, has rows of {} elements, expected whole blocks of {}", argument.name, text(view),
                          step, type.block));
  }
  int64_t span = 1;  // elements from the first to one past the last of the axes seen so far
  for (int axis = view.rank() - 1; axis >= 0; --axis) {
    const int64_t size = view.shape[axis];
    const int64_t stride = view.stride[static_cast<size_t>(axis)];
    const bool last = axis == view.rank() - 1;
    if (size > 1 && last && stride != 1) {
      fail_with(
          fmt::format("{}, {}, has stride {} along its last axis, expected 1", argument.name, text(view), stride));
    }
    if (size > 1 && stride < span) {
      fail_with(
          fmt::format("{}, {}, has stride {} along axis {}, expected at least {} so that its parts do not overlap",
                      argument.name, text(view), stride, axis, span));
    }
    span += (size - 1) * stride;
  }
}

void Checker::check_aliasing(const Argument& written, const Argument& other) const {
  const View& a = *written.view;
  const View& b = *other.view;
  if (!a || !b || !overlap(a, b)) return;
  const bool allowed = (written.in_place_of && std::string_view(written.in_place_of) == other.name) ||
                       (other.in_place_of && std::string_view(other.in_place_of) == written.name);
  if (allowed && same_view(a, b)) return;
  fail_with(fmt::format("{}, {}, overlaps {}, {}, expected {}", written.name, text(a), other.name, text(b),
                        allowed ? "the very same view or none of its elements" : "memory of its own"));
}

const Checker::Argument& Checker::argument_of(const View& view) const {
  for (size_t i = 0; i < argument_count_; ++i) {
    if (arguments_[i].view == &view) return arguments_[i];
  }
  MOE_CHECK(!"the view is in the operation's field list");
  return arguments_[0];
}

const Checker::Symbol* Checker::find(std::string_view symbol) const {
  for (size_t i = 0; i < symbol_count_; ++i) {
    if (symbols_[i].name == symbol) return &symbols_[i];
  }
  return nullptr;
}

int64_t Checker::size(std::string_view symbol) const {
  const Symbol* found = find(symbol);
  MOE_CHECK(found != nullptr);
  return found->value;
}

Checker& Checker::define(std::string_view symbol, int64_t value, std::string_view from) {
  MOE_CHECK(symbol_count_ < symbols_.size() && find(symbol) == nullptr);
  const Symbol* base = find(from);
  symbols_[symbol_count_++] = {symbol, value, base ? base->source : nullptr, base ? base->from : from};
  return *this;
}

void Checker::check_shape(const View& view, std::string_view sizes) {
  const Argument& argument = argument_of(view);
  if (view.rank() != count_words(sizes)) fail_shape(argument, sizes, nullptr);
  std::string_view rest = sizes;
  for (int axis = 0; axis < view.rank(); ++axis) {
    const std::string_view word = next_word(rest);
    const int64_t found = view.shape[axis];
    if (is_number(word)) {
      if (found != number(word)) fail_shape(argument, sizes, nullptr);
    } else if (const Symbol* symbol = find(word)) {
      if (found != symbol->value) fail_shape(argument, sizes, symbol);
    } else {
      MOE_CHECK(symbol_count_ < symbols_.size());
      symbols_[symbol_count_++] = {word, found, &argument, {}};
    }
  }
}

void Checker::fail_shape(const Argument& argument, std::string_view sizes, const Symbol* culprit) const {
  std::string symbols;
  std::string values;
  for (std::string_view rest = sizes; !rest.empty();) {
    const std::string_view word = next_word(rest);
    const Symbol* symbol = find(word);
    symbols += fmt::format("{}{}", symbols.empty() ? "" : ", ", word);
    values += fmt::format("{}{}", values.empty() ? "" : ", ", symbol ? std::to_string(symbol->value) : word);
  }
  std::string message = fmt::format("{} is {}, expected [{}]", argument.name, text(*argument.view), symbols);
  if (values != symbols) message += fmt::format(" = [{}]", values);
  if (culprit && culprit->source) {
    message += fmt::format(" (beside {}, {})", culprit->source->name, text(*culprit->source->view));
  } else if (culprit) {
    message += fmt::format(" (from {})", culprit->from);
  }
  fail_with(message);
}

void Checker::check_type(const View& view, Use use) {
  const Argument& argument = argument_of(view);
  const bool stat = use == Use::stat, twice = view.dtype == DType::f64;
  const bool single = !twice && (use == Use::weight ? is_float(view.dtype)
                                                    : (stat ? view.dtype == DType::f32 : kDataTypes.has(view.dtype)));
  const char* expected = stat ? "f32 or f64" : "f32, bf16 or f64";
  if (precision_ == Precision::single) expected = stat ? "f32" : "f32 or bf16";
  if (use == Use::weight) expected = "a float type";
  if (precision_ == Precision::twice) expected = "f64";
  const bool legal = (twice && precision_ != Precision::single) || (single && precision_ != Precision::twice);
  if (!legal) {
    std::string message = fmt::format("{} is {}, expected {}", argument.name, text(view), expected);
    if (precision_source_) {
      message += fmt::format(" (beside {}, {})", precision_source_->name, text(*precision_source_->view));
    }
    fail_with(message);
  }
  if (precision_ == Precision::unknown) {
    precision_ = twice ? Precision::twice : Precision::single;
    precision_source_ = &argument;
  }
}

Checker& Checker::data(const View& view, std::string_view sizes) {
  if (!view) return *this;
  check_type(view, Use::data);
  check_shape(view, sizes);
  return *this;
}

Checker& Checker::stat(const View& view, std::string_view sizes) {
  if (!view) return *this;
  check_type(view, Use::stat);
  check_shape(view, sizes);
  return *this;
}

Checker& Checker::weight(const View& view, std::string_view sizes) {
  if (!view) return *this;
  check_type(view, Use::weight);
  check_shape(view, sizes);
  return *this;
}

Checker& Checker::i32(const View& view, std::string_view sizes) {
  if (!view) return *this;
  require(view.dtype == DType::i32, "{} is {}, expected i32", argument_of(view).name, text(view));
  check_shape(view, sizes);
  return *this;
}

Checker& Checker::f64(const View& view, std::string_view sizes) {
  if (!view) return *this;
  require(view.dtype == DType::f64, "{} is {}, expected f64", argument_of(view).name, text(view));
  check_shape(view, sizes);
  return *this;
}

Checker& Checker::any_data(const View& view) {
  if (view) check_type(view, Use::data);
  return contiguous(view);
}

Checker& Checker::any_stat(const View& view) {
  if (view) check_type(view, Use::stat);
  return contiguous(view);
}

Checker& Checker::contiguous(const View& view) {
  require(!view || view.elements() == 0 || view.contiguous(),
          "{}, {}, has gaps between its rows, expected it contiguous", argument_of(view).name, text(view));
  return *this;
}

Checker& Checker::as_many(const View& view, const View& other) {
  require(!view || view.elements() == other.elements(), "{} is {}, expected {} elements (beside {}, {})",
          argument_of(view).name, text(view), other.elements(), argument_of(other).name, text(other));
  return *this;
}

Checker& Checker::together(const View& a, const View& b) {
  const View& present = a ? a : b;
  const View& absent = a ? b : a;
  require(static_cast<bool>(a) == static_cast<bool>(b), "{} is given without {}, expected both or neither",
          argument_of(present).name, argument_of(absent).name);
  return *this;
}

}  // namespace moe
