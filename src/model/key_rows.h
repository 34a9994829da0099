#pragma once
/// Settings as tables: one table per struct, one row per key. The rows drive reading, refusing, printing, config.json
/// and the key table of docs/training.md.
///
/// To add a key:
///   1. Add a member with its default to the struct.
///   2. Add one row to the struct's table: src/model/model_keys.cpp (ModelConfig), src/model/balance_keys.cpp
///      (BalanceConfig), src/study/study_keys.cpp ([study]) or src/train/run_keys.cpp (all else). A table is read from
///      top to bottom.
///   3. Put the output of `moe train --keys` (or `moe study --keys`) between the markers of docs/training.md
///   (docs/study.md);
///      a test compares.
/// The row says everything else: the name, the values, the default where it follows from other keys (`derive`), what
/// the key needs to have an effect (`needs` of the model, `used` with another key of the struct), its place in
/// config.json (`json`) and one line of documentation. Kept results of studies and half-trained runs stay good: a key
/// that they lack counts as today's default.
///   An integer that also takes a word: integer<&S::rows>(1, kMostCount, {"auto", 0}): the member is 0 if the file has
///   the word. A boolean that also takes one: boolean_or_auto<&S::flag, &S::chosen_later>(): the second member is true
///   if the file has "auto".
///   Three values, false, true and a word: boolean_or_word<&S::kind, Kind::a, Kind::b, Kind::c>().
///   One of a few words: word<&S::kind, Kind::a, Kind::b>(), by name(Kind).
///   Anything else: a KeyField of your own, from functions between SettingValue and the struct.

#include <algorithm>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "base/setting_value.h"
#include "model/config.h"

namespace moe {

/// The largest value of a count: the largest 32-bit index.
constexpr int64_t kMostCount = std::numeric_limits<int32_t>::max();
/// The largest width of a model's vectors, and the largest number of layers, heads, experts and devices.
constexpr int64_t kMostWidth = int64_t{1} << 20;
constexpr int64_t kMostParts = int64_t{1} << 16;
/// The smallest positive value of a number that f32 computes with.
constexpr double kLeastPositive = 1e-30;

enum class KeyKind { integer, number, boolean, word, text, texts, integers };

/// A word that an integer or boolean key takes too.
struct KeyWord {
  const char* text = nullptr;
  int64_t value = 0;  ///< of an integer: the member's, for the word
};

/// The condition for a routing key to have an effect.
struct Need {
  const char* text;  ///< for instance "routed experts"
  bool (*holds)(const ModelConfig& model);
};
extern const Need kNeedsExperts, kNeedsTopk, kNeedsCapacity, kNeedsGroups, kNeedsLimitedGroups, kNeedsBias,
    kNeedsNoisyTopk, kNeedsHash, kNeedsStable;

/// When a line of text about the settings includes the key.
enum class Told { when_set, where_needed, always };

/// How config.json stores the field.
enum class JsonForm {
  none,
  required,
  always,
  with_experts,    ///< null if there are no routed experts
  unless_zero,     ///< null if it is 0
  unless_derived,  ///< left out if it has the value that `derive` gives
  unless_default,  ///< left out if it is the default
  with_groups,     ///< left out if experts are not chosen by groups
};

/// The description of a key, without the struct that holds it.
struct KeyInfo {
  const char* key = "";  ///< dotted path; "": only in config.json
  KeyKind kind = KeyKind::integer;
  int64_t least = 0, most = 0;               ///< of an integer
  KeyWord word = {};                         ///< of an integer or a boolean
  double low = 0, high = 0;                  ///< of a number; what is not 0 is at least kLeastPositive
  std::vector<std::string> (*words)() = {};  ///< of a word
  const char* doc = "";                      ///< the meaning, in Markdown
  const char* also = "";                     ///< other names that people use: words separated by blanks
  const char* shown_default = nullptr;       ///< in Markdown, if the default is not the struct's
  bool required = false;                     ///< required in a run file
  const Need* needs = nullptr;               ///< null: no condition on the model
  /// The setting of the same struct that gives the key an effect, for people: "schedule.kind = wsd". Null or an empty
  /// text: any.
  std::string (*used_with)() = nullptr;
  bool absent_without_need = false;  ///< if the condition does not hold, a run file must not have the key
  bool free_on_resume = false;       ///< the final model does not depend on it, so a resumed run may change it
  Told told = Told::when_set;
  JsonForm json = JsonForm::none;
  const char* field = nullptr;  ///< name in config.json; null: the last part of the key
  bool own = false;             ///< if it is not the default, DeepseekForCausalLM does not compute this model

  /// What the key needs to have an effect, for people; empty: nothing.
  std::string need() const;
  std::string_view leaf() const;
  std::string_view section() const;
  std::string_view json_field() const { return field != nullptr ? field : leaf(); }
};

/// What the key's member holds for its word, which it has.
SettingValue value_of_word(const KeyInfo& info);
/// What values the key takes: "an integer from 1 to 32".
std::string expected_values(const KeyInfo& info);
/// True if the key takes `value`, which must be of the key's kind.
bool takes(const KeyInfo& info, const SettingValue& value);
/// The value for lines of text: words without quotes.
std::string plain_text(const SettingValue& value);

/// How a struct holds a value, and which values it may have.
template <class S>
struct KeyField {
  KeyInfo info;
  SettingValue (*get)(const S&) = nullptr;
  void (*set)(S&, const SettingValue&) = nullptr;
};

template <class S>
struct KeyRow : KeyInfo {
  SettingValue (*get)(const S&) = nullptr;
  /// Sets a value that takes() accepts.
  void (*set)(S&, const SettingValue&) = nullptr;
  /// Sets the default from the rows above. `before` is the struct at the beginning of reading.
  void (*derive)(S& object, const S& before) = nullptr;
  /// The condition `used_with`, which another key of the struct meets; null: the key always has an effect.
  bool (*used)(const S& object) = nullptr;
};

/// A row without its field.
template <class S>
struct KeyRest {
  const char* doc = "";
  const char* also = "";
  const char* shown_default = nullptr;
  bool required = false;
  const Need* needs = nullptr;
  bool absent_without_need = false;
  bool free_on_resume = false;
  Told told = Told::when_set;
  JsonForm json = JsonForm::none;
  const char* field = nullptr;
  bool own = false;
  void (*derive)(S& object, const S& before) = nullptr;
  std::string (*used_with)() = nullptr;
  bool (*used)(const S& object) = nullptr;
};

template <class S>
constexpr KeyRow<S> row(const char* key, KeyField<S> field, KeyRest<S> rest) {
  KeyRow<S> made;
  static_cast<KeyInfo&>(made) = field.info;
  made.key = key;
  made.doc = rest.doc;
  made.also = rest.also;
  made.shown_default = rest.shown_default;
  made.required = rest.required;
  made.needs = rest.needs;
  made.absent_without_need = rest.absent_without_need;
  made.free_on_resume = rest.free_on_resume;
  made.told = rest.told;
  made.json = rest.json;
  made.field = rest.field;
  made.own = rest.own;
  made.get = field.get;
  made.set = field.set;
  made.derive = rest.derive;
  made.used_with = rest.used_with;
  made.used = rest.used;
  return made;
}

namespace key_rows {

template <class T>
struct MemberTraits;
template <class S, class T>
struct MemberTraits<T S::*> {
  using Struct = S;
  using Type = T;
};
template <auto member>
using StructOf = typename MemberTraits<decltype(member)>::Struct;
template <auto member>
using TypeOf = typename MemberTraits<decltype(member)>::Type;

/// The number that a float was written as.
double decimal(float value);

/// A member, converted to its SettingValue type V.
template <auto member, class V>
constexpr KeyField<StructOf<member>> plain(KeyInfo info) {
  using S = StructOf<member>;
  using T = TypeOf<member>;
  return {.info = info,
          .get = [](const S& object) -> SettingValue {
            if constexpr (std::is_same_v<T, float>) return decimal(object.*member);
            return static_cast<V>(object.*member);
          },
          .set = [](S& object, const SettingValue& value) { object.*member = static_cast<T>(std::get<V>(value)); }};
}

}  // namespace key_rows

template <auto member>
constexpr auto integer(int64_t least, int64_t most, KeyWord word = {}) {
  KeyInfo info;
  info.kind = KeyKind::integer, info.least = least, info.most = most, info.word = word;
  return key_rows::plain<member, int64_t>(info);
}

template <auto member>
constexpr auto number(double low, double high) {
  KeyInfo info;
  info.kind = KeyKind::number, info.low = low, info.high = high;
  return key_rows::plain<member, double>(info);
}

template <auto member>
constexpr auto boolean() {
  KeyInfo info;
  info.kind = KeyKind::boolean;
  return key_rows::plain<member, bool>(info);
}

/// True, false, or "auto": then `chosen_later` is true.
template <auto member, auto chosen_later>
constexpr auto boolean_or_auto() {
  using S = key_rows::StructOf<member>;
  KeyInfo info;
  info.kind = KeyKind::boolean, info.word = {.text = "auto"};
  return KeyField<S>{.info = info,
                     .get = [](const S& object) -> SettingValue {
                       return object.*chosen_later ? SettingValue(std::string("auto")) : SettingValue(object.*member);
                     },
                     .set =
                         [](S& object, const SettingValue& value) {
                           object.*chosen_later = std::holds_alternative<std::string>(value);
                           if (!(object.*chosen_later)) object.*member = std::get<bool>(value);
                         }};
}

/// An enum with three values: false, true and, by name(other), a word.
template <auto member, auto off, auto on, auto other>
constexpr auto boolean_or_word() {
  using S = key_rows::StructOf<member>;
  KeyInfo info;
  info.kind = KeyKind::boolean, info.word = {.text = name(other)};
  return KeyField<S>{.info = info,
                     .get = [](const S& object) -> SettingValue {
                       if (object.*member == other) return std::string(name(other));
                       return object.*member == on;
                     },
                     .set =
                         [](S& object, const SettingValue& value) {
                           const bool* flag = std::get_if<bool>(&value);
                           object.*member = flag == nullptr ? other : *flag ? on : off;
                         }};
}

template <auto member>
constexpr auto text() {
  KeyInfo info;
  info.kind = KeyKind::text;
  return key_rows::plain<member, std::string>(info);
}

template <auto member>
constexpr auto texts() {
  KeyInfo info;
  info.kind = KeyKind::texts;
  return key_rows::plain<member, std::vector<std::string>>(info);
}

/// A list of integers in a range.
template <auto member>
constexpr auto integers(int64_t least, int64_t most) {
  KeyInfo info;
  info.kind = KeyKind::integers, info.least = least, info.most = most;
  return key_rows::plain<member, std::vector<int64_t>>(info);
}

/// An enum, by name(value).
template <auto member, auto... values>
constexpr auto word() {
  using S = key_rows::StructOf<member>;
  KeyInfo info;
  info.kind = KeyKind::word;
  info.words = [] { return std::vector<std::string>{name(values)...}; };
  return KeyField<S>{.info = info,
                     .get = [](const S& object) -> SettingValue { return std::string(name(object.*member)); },
                     .set =
                         [](S& object, const SettingValue& value) {
                           const auto& text = std::get<std::string>(value);
                           ((text == name(values) ? void(object.*member = values) : void()), ...);
                         }};
}

/// Whether the row's value can matter in `object` and `model`.
template <class S>
bool has_effect(const KeyRow<S>& row, const S& object, const ModelConfig& model) {
  return (row.needs == nullptr || row.needs->holds(model)) && (row.used == nullptr || row.used(object));
}

/// The row of a key, which must exist.
template <class S>
const KeyRow<S>& find_row(std::span<const KeyRow<S>> rows, std::string_view key) {
  return *std::find_if(rows.begin(), rows.end(), [&](const KeyRow<S>& row) { return row.key == key; });
}

/// The rows above the row of `key`, and the rows from it on.
template <class S>
std::span<const KeyRow<S>> rows_before(std::span<const KeyRow<S>> rows, std::string_view key) {
  return rows.first(static_cast<size_t>(&find_row(rows, key) - rows.data()));
}
template <class S>
std::span<const KeyRow<S>> rows_from(std::span<const KeyRow<S>> rows, std::string_view key) {
  return rows.subspan(static_cast<size_t>(&find_row(rows, key) - rows.data()));
}

/// Calls `say` with each row to be told (KeyInfo::told) and its value.
template <class S, class Say>
void tell(std::span<const KeyRow<S>> rows, const S& object, const ModelConfig& model, const Say& say) {
  const S plain;
  for (const KeyRow<S>& row : rows) {
    const SettingValue value = row.get(object);
    const bool needed = row.needs == nullptr || row.needs->holds(model);
    const bool told = row.told == Told::always || (row.told == Told::where_needed && needed) || value != row.get(plain);
    if (told) say(row, plain_text(value));
  }
}

/// The first row whose value has no effect, because `model` does not meet the row's condition; null if there is none.
template <class S>
const KeyRow<S>* without_effect(std::span<const KeyRow<S>> rows, const S& object, const ModelConfig& model) {
  const S plain;
  for (const KeyRow<S>& row : rows) {
    if (row.needs != nullptr && !row.needs->holds(model) && row.get(object) != row.get(plain)) return &row;
  }
  return nullptr;
}

/// The first row with a value that the row does not take; null if there is none.
template <class S>
const KeyRow<S>* out_of_range(std::span<const KeyRow<S>> rows, const S& object) {
  for (const KeyRow<S>& row : rows) {
    if (!takes(row, row.get(object))) return &row;
  }
  return nullptr;
}

}  // namespace moe
