#pragma once
/// The tools for writing check(op). The constructor checks everything that follows from the list of fields: required
/// views are present, addresses are aligned to the element, the last axis is contiguous, the parts of outer axes do not
/// overlap, and outputs overlap only what they may. The calls check the other conditions of an operation by name. The
/// first view with a size symbol binds the symbol; every later view must agree. Each failure is an Error with one
/// sentence.

#include <string_view>

#include "ops/fields.h"
#include "ops/type_set.h"

namespace moe {

/// The types of operands.
inline constexpr TypeSet kDataTypes{DType::f64, DType::f32, DType::bf16};

/// For one thread at a time.
class Checker {
 public:
  template <class Op>
  explicit Checker(const Op& op) : op_name_(Op::name) {
    for (const auto& field : Op::fields()) {
      add({field.name, &(op.*field.view), field.role, field.optional, field.in_place_of});
    }
    check_fields();
  }
  Checker(const Checker&) = delete;
  Checker& operator=(const Checker&) = delete;

  /// The next five take a view of the operation and its sizes as symbols or numbers, outermost first: "T D", "1",
  /// "E+1". Absent views are skipped. Operands: f32 or bf16 in any mix, or all f64.
  Checker& data(const View& view, std::string_view sizes);
  /// Statistics, losses, parameter gradients: f32, or f64 if operands and statistics are f64.
  Checker& stat(const View& view, std::string_view sizes);
  /// Weights, and a cache of keys and values: like operands, or of any other float type of the table, which each
  /// backend that computes with it names.
  Checker& weight(const View& view, std::string_view sizes);
  Checker& i32(const View& view, std::string_view sizes);
  Checker& f64(const View& view, std::string_view sizes);

  /// The same without a condition on the shape: any shape, but contiguous.
  Checker& any_data(const View& view);
  Checker& any_stat(const View& view);
  Checker& contiguous(const View& view);
  /// `view`, if present, has as many elements as `other`.
  Checker& as_many(const View& view, const View& other);

  /// Both present or both absent.
  Checker& together(const View& a, const View& b);

  /// Gives a symbol a value computed from others: define("2F", 2 * size("F"), "F"). `from` names the symbol or scalar
  /// that an error reports.
  Checker& define(std::string_view symbol, int64_t value, std::string_view from);
  /// The value of a bound symbol.
  int64_t size(std::string_view symbol) const;

  /// Fails with "operation: <message>" unless the condition holds.
  template <class... Args>
  Checker& require(bool condition, fmt::format_string<Args...> message, Args&&... args) {
    if (!condition) fail_with(fmt::format(message, std::forward<Args>(args)...));
    return *this;
  }

 private:
  struct Argument {
    const char* name;
    const View* view;
    Role role;
    bool optional;
    const char* in_place_of;
  };
  struct Symbol {
    std::string_view name;
    int64_t value;
    const Argument* source;  ///< the view that bound it; null if a scalar did
    std::string_view from;   ///< then the name of the scalar
  };
  enum class Precision { unknown, single, twice };

  void add(const Argument& argument);
  void check_fields() const;
  void check_layout(const Argument& argument) const;
  void check_aliasing(const Argument& written, const Argument& other) const;
  const Argument& argument_of(const View& view) const;
  const Symbol* find(std::string_view symbol) const;
  void check_shape(const View& view, std::string_view sizes);
  [[noreturn]] void fail_shape(const Argument& argument, std::string_view sizes, const Symbol* culprit) const;
  enum class Use { data, stat, weight };
  void check_type(const View& view, Use use);
  [[noreturn]] void fail_with(const std::string& message) const;

  const char* op_name_;
  std::array<Argument, 12> arguments_{};
  size_t argument_count_ = 0;
  std::array<Symbol, 12> symbols_{};
  size_t symbol_count_ = 0;
  Precision precision_ = Precision::unknown;
  const Argument* precision_source_ = nullptr;
};

}  // namespace moe
