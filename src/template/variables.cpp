#include <charconv>

#include "base/error.h"
#include "formats/json.h"
#include "template/template.h"

namespace moe::jinja {
namespace {

// Builds values from a document's parts as they come, so that members keep their order.
class VariableReader : public JsonParts {
 public:
  Value root;
  std::string problem;  // why reading ended early

  bool null() override { return add(Value::none()); }
  bool boolean(bool value) override { return add(Value(value)); }
  bool number_integer(int64_t value) override { return add(Value(value)); }
  bool number_unsigned(uint64_t value) override {
    if (value > static_cast<uint64_t>(INT64_MAX)) return refuse(fmt::format("{}", value));
    return add(Value(static_cast<int64_t>(value)));
  }
  bool number_float(double value, const std::string& text) override {
    if (text.find_first_of(".eE") == std::string::npos) return refuse(text);
    return add(Value(value));
  }
  bool string(std::string& value) override { return add(Value(std::move(value))); }
  bool binary(Json::binary_t&) override { return false; }
  bool start_object(size_t) override {
    open_.push_back({std::make_shared<Dict>(), {}, {}});
    return true;
  }
  bool key(std::string& name) override {
    open_.back().key = std::move(name);
    return true;
  }
  bool end_object() override {
    Value value = Value::dict(std::move(open_.back().dict));
    open_.pop_back();
    return add(std::move(value));
  }
  bool start_array(size_t) override {
    open_.push_back({});
    return true;
  }
  bool end_array() override {
    Value value = Value::list(std::move(open_.back().items));
    open_.pop_back();
    return add(std::move(value));
  }

 private:
  struct Open {
    std::shared_ptr<Dict> dict;  // null of an array
    std::string key;
    Values items;
  };

  bool refuse(const std::string& number) {
    problem = fmt::format("the number {} is more than an integer of 64 bits holds", number);
    return false;
  }

  bool add(Value value) {
    if (open_.empty()) {
      root = std::move(value);
    } else if (open_.back().dict != nullptr) {
      open_.back().dict->set(open_.back().key, std::move(value));
    } else {
      open_.back().items.push_back(std::move(value));
    }
    return true;
  }

  std::vector<Open> open_;
};

}  // namespace

Value parse_variables(std::string_view json, std::string_view name) {
  VariableReader reader;
  parse_json_parts(json, name, reader);
  if (!reader.problem.empty()) fail("{}: {}", name, reader.problem);
  if (!reader.root.is(Type::dict)) {
    fail("{}: found a '{}', expected an object whose keys are the template's variables, such as messages", name,
         type_name(reader.root));
  }
  return std::move(reader.root);
}

}  // namespace moe::jinja
